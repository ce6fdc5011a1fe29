//! Measurement streams: what is in them, what is missing, and what else may come along.

use phasescope::capture::Capture;
use phasescope::capture::dpmi::{StreamCounts, StreamDecoder};

use super::{INSIDE, check_packets, drain, frames, path, read, truth};

#[test]
fn a_stream_inside_a_capture_gives_what_was_recorded_of_it() {
    let capture = Capture::open_with(&[path("live-eth.stream.pcap")], INSIDE).unwrap();
    let (got, file) = drain(capture);
    assert_eq!(got, frames("live-eth.cap").0);
    check_packets(&got, &truth("live-eth")["packets"]);
    let counts = file.dpmi.unwrap().streams.unwrap();
    let headers = truth("live-eth.stream");
    let headers = headers["frames"].as_array().unwrap();
    let sum = |key: &str| {
        headers
            .iter()
            .map(|h| h[key].as_u64().unwrap())
            .sum::<u64>()
    };
    let expected = StreamCounts {
        streams: 1,
        frames: headers.len() as u64,
        records: sum("packets"),
        flushes: sum("flags"),
        ..StreamCounts::default()
    };
    assert_eq!(counts, expected);
    // Without the option the frames are those of the stream.
    let (outer, file) = frames("live-eth.stream.pcap");
    assert_eq!(outer.len(), headers.len());
    assert_eq!(file.dpmi, None);
}

/// The measurement frames of the fixture, from their send headers on.
fn payloads() -> Vec<Vec<u8>> {
    let (outer, _) = frames("live-eth.stream.pcap");
    outer.into_iter().map(|f| f.data[14..].to_vec()).collect()
}

fn numbered(sequence: u32, like: &[u8]) -> Vec<u8> {
    let mut p = like.to_vec();
    p[..4].copy_from_slice(&sequence.to_be_bytes());
    p
}

/// Pushes frames with these numbers; their contents differ.
fn counts(numbers: &[u32]) -> StreamCounts {
    let like = payloads().remove(0);
    let mut decoder = StreamDecoder::default();
    for (i, n) in numbers.iter().enumerate() {
        let mut p = numbered(*n, &like);
        let last = p.len() - 1;
        p[last] = i as u8;
        decoder.push(&p, &mut |_| {});
    }
    *decoder.counts()
}

#[test]
fn sequence_numbers_tell_losses() {
    let of = |numbers: &[u32]| {
        let c = counts(numbers);
        (c.lost, c.gaps, c.late, c.restarts)
    };
    assert_eq!(of(&[7, 8, 9]), (0, 0, 0, 0));
    assert_eq!(of(&[7, 9, 13]), (4, 2, 0, 0));
    // Both periods in use.
    assert_eq!(of(&[0xfffd, 0xfffe, 0, 1]), (0, 0, 0, 0));
    assert_eq!(of(&[0xfffe, 0xffff, 0, 1]), (0, 0, 0, 0));
    assert_eq!(of(&[0xfffe, 1]), (1, 1, 0, 0));
    assert_eq!(of(&[0xffff, 1]), (1, 1, 0, 0));
    assert_eq!(of(&[0xfff0, 3]), (17, 1, 0, 0));
    // Order changed on the way, also where the numbers begin again.
    assert_eq!(of(&[5, 7, 6, 8]), (0, 1, 1, 0));
    assert_eq!(of(&[0xfffd, 0, 0xfffe, 1]), (0, 1, 1, 0));
    // A sender that began anew, its first frames seen or not.
    assert_eq!(of(&[4000, 4001, 0, 1]), (0, 0, 0, 1));
    assert_eq!(of(&[4000, 2, 3]), (2, 1, 0, 1));
    assert_eq!(of(&[0, 0, 1]), (0, 0, 0, 1));
    // Numbers that no sender gives do no harm.
    of(&[
        u32::MAX,
        0,
        u32::MAX - 1,
        5,
        u32::MAX,
        u32::MAX - 70,
        70_000,
        69_999,
    ]);
}

#[test]
fn a_lost_frame_is_counted_and_the_rest_is_given() {
    let mut decoder = StreamDecoder::default();
    let mut got = 0;
    for (i, p) in payloads().iter().enumerate() {
        if i != 5 {
            decoder.push(p, &mut |_| got += 1);
        }
    }
    // The sixth frame has eight records.
    assert_eq!(
        (got, decoder.counts().lost, decoder.counts().gaps),
        (57, 1, 1)
    );
}

#[test]
fn frames_that_come_twice_count_once() {
    let mut decoder = StreamDecoder::default();
    let mut got = 0;
    let payloads = payloads();
    for p in payloads.iter().flat_map(|p| [p, p]) {
        decoder.push(p, &mut |_| got += 1);
    }
    let c = decoder.counts();
    assert_eq!((got, c.repeated, c.lost, c.restarts), (65, 19, 0, 0));
}

#[test]
fn old_and_odd_send_headers_are_understood() {
    let like = payloads().remove(1);
    let push = |p: &[u8]| {
        let mut decoder = StreamDecoder::default();
        let mut n = 0;
        decoder.push(p, &mut |_| n += 1);
        (n, *decoder.counts())
    };
    assert_eq!(push(&like).1.disagreeing, 0);
    for count in [[0, 6, 0, 0], [6, 0, 0, 0]] {
        let mut p = like.clone();
        p[4..8].copy_from_slice(&count);
        let (n, c) = push(&p);
        assert_eq!((n, c.disagreeing), (6, 0));
    }
    let mut p = like.clone();
    p[4..8].copy_from_slice(&[0, 0, 0, 5]);
    assert_eq!(push(&p).1.disagreeing, 1);
    // Flush as a 16-bit number, version as two bytes.
    let mut p = like.clone();
    p[8..12].copy_from_slice(&[0, 1, 0, 0]);
    p[12..16].copy_from_slice(&[0, 6, 0x55, 0x55]);
    let (n, c) = push(&p);
    assert_eq!((n, c.flushes, c.foreign), (6, 1, 0));
    // Padding or a checksum behind the records.
    let mut p = like.clone();
    p.extend([1, 2, 3, 4]);
    let (n, c) = push(&p);
    assert_eq!((n, c.broken, c.disagreeing), (6, 0, 0));
    // A version to come.
    let mut p = like.clone();
    p[15] = 8;
    let (n, c) = push(&p);
    assert_eq!((n, c.foreign, c.frames), (0, 1, 0));
    // No records.
    let (n, c) = push(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!((n, c.broken, c.disagreeing, c.frames), (0, 0, 0, 1));
}

#[test]
fn measurement_frames_cut_anywhere_give_their_whole_records() {
    for p in payloads() {
        let mut whole = 0;
        StreamDecoder::default().push(&p, &mut |_| whole += 1);
        for n in 0..p.len() {
            let mut decoder = StreamDecoder::default();
            let mut got = 0;
            decoder.push(&p[..n], &mut |r| {
                assert_eq!(r.data, &p[r.at..r.at + r.data.len()]);
                got += 1;
            });
            let c = decoder.counts();
            assert!(got < whole);
            assert_eq!(c.foreign, u64::from(n < 16));
            assert!(n < 16 || c.broken + c.disagreeing == 1, "cut at {n}");
        }
    }
}

/// A pcap file of the given frames, Ethernet.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(0xa1b2_c3d4u32.to_le_bytes());
    out.extend([2, 0, 4, 0]);
    for word in [0u32, 0, 65_535, 1] {
        out.extend(word.to_le_bytes());
    }
    for f in frames {
        for word in [1_700_000_000u32, 0, f.len() as u32, f.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(f);
    }
    out
}

#[test]
fn streams_in_udp_and_behind_tags_are_found() {
    let udp = |p: &Vec<u8>| {
        let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
        f.extend([0x45, 0]);
        f.extend((28 + p.len() as u16).to_be_bytes());
        f.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 239, 0, 0, 1]);
        f.extend([0x9c, 0x40, 0x08, 0x10]);
        f.extend((8 + p.len() as u16).to_be_bytes());
        f.extend([0, 0]);
        f.extend(p);
        f
    };
    let tagged = |p: &Vec<u8>| {
        let mut f = vec![
            1, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x81, 0x00, 0, 5, 0x08, 0x10,
        ];
        f.extend(p);
        f
    };
    let expected = frames("live-eth.cap").0;
    let payloads = payloads();
    for outer in [
        payloads.iter().map(udp).collect::<Vec<_>>(),
        payloads.iter().map(tagged).collect(),
    ] {
        let (got, file) = read(pcap(&outer), INSIDE).unwrap();
        assert_eq!(got, expected);
        assert_eq!(file.dpmi.unwrap().streams.unwrap().streams, 1);
    }
    // Two streams at once have their own numbers.
    let both: Vec<_> = payloads.iter().flat_map(|p| [udp(p), tagged(p)]).collect();
    let (got, file) = read(pcap(&both), INSIDE).unwrap();
    let c = file.dpmi.unwrap().streams.unwrap();
    assert_eq!((got.len(), c.streams, c.lost, c.repeated), (130, 2, 0, 0));
}
