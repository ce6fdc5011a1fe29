//! Several files at once, in time order.

use super::*;

/// Frames as (file's letter, interface).
fn order(paths: &[PathBuf]) -> (String, Vec<u32>) {
    let mut capture = Capture::open(paths).unwrap();
    let frames = drain(&mut capture);
    let numbers: Vec<u64> = frames.iter().map(|f| f.number).collect();
    assert_eq!(numbers, (1..=frames.len() as u64).collect::<Vec<_>>());
    let interfaces = frames.iter().map(|f| f.interface).collect();
    let letters = frames.iter().map(|f| char::from(f.data[0])).collect();
    (letters, interfaces)
}

fn file(letter: u8, seconds: &[i64]) -> Vec<u8> {
    let packets: Vec<Pkt> = seconds.iter().map(|s| pkt(s * SECOND, &[letter])).collect();
    pcap(&packets)
}

#[test]
fn files_that_follow_each_other() {
    // As tcpdump -W or -C leaves them; named in any order.
    let (a, b, c) = (file(b'a', &[1, 2]), file(b'b', &[3, 4]), file(b'c', &[5]));
    for (n, set) in [[&a, &b, &c], [&c, &a, &b], [&b, &c, &a]]
        .iter()
        .enumerate()
    {
        let set = set.map(Vec::clone);
        let paths = files(&format!("follow{n}"), &set);
        // They are of one interface.
        assert_eq!(order(&paths), ("aabbc".into(), vec![0; 5]));
        let mut capture = Capture::open(&paths).unwrap();
        drain(&mut capture);
        assert_eq!(capture.interfaces().count(), 1);
        let summary: Vec<_> = capture
            .files()
            .iter()
            .map(|f| (&f.name, f.packets))
            .collect();
        for (i, path) in paths.iter().enumerate() {
            let packets = if set[i] == c { 1 } else { 2 };
            assert_eq!(summary[i], (&path.display().to_string(), packets));
        }
        let size: usize = set.iter().map(Vec::len).sum();
        assert_eq!(capture.progress(), (size as u64, Some(size as u64)));
    }
}

#[test]
fn files_are_opened_when_their_time_comes() {
    let paths = files(
        "lazy",
        &[file(b'a', &[1, 2]), file(b'b', &[3]), file(b'c', &[9])],
    );
    let mut capture = Capture::open(&paths).unwrap();
    // What is gone before its time cannot be read.
    std::fs::remove_file(&paths[1]).unwrap();
    for _ in 0..2 {
        assert_eq!(capture.next_frame().unwrap().unwrap().data, b"a");
    }
    let e = capture.next_frame().unwrap_err();
    assert!(matches!(e, CaptureError::Open { .. }), "{e}");
}

#[test]
fn files_that_overlap() {
    // Two hosts: two interfaces.
    let paths = files("overlap", &[file(b'a', &[1, 4, 5]), file(b'b', &[2, 3, 6])]);
    assert_eq!(order(&paths), ("abbaab".into(), vec![0, 1, 1, 0, 0, 1]));
    // Equal times: the file named first comes first, whichever was open before.
    let sets = [
        [file(b'a', &[7]), file(b'b', &[7]), file(b'c', &[7])],
        [file(b'a', &[7]), file(b'b', &[1, 7]), file(b'c', &[7])],
        [file(b'a', &[7]), file(b'b', &[7]), file(b'c', &[1, 7])],
        [file(b'a', &[1, 7]), file(b'b', &[7]), file(b'c', &[7])],
    ];
    for (n, (set, want)) in sets.iter().zip(["abc", "babc", "cabc", "aabc"]).enumerate() {
        let paths = files(&format!("ties{n}"), set);
        assert_eq!(order(&paths).0, want);
    }
    // A third one follows the first: it takes its interface over.
    let set = [
        file(b'a', &[1, 3]),
        file(b'b', &[2, 9]),
        file(b'c', &[4, 5]),
    ];
    let paths = files("lanes", &set);
    assert_eq!(order(&paths), ("abaccb".into(), vec![0, 1, 0, 0, 0, 1]));
}

#[test]
fn files_of_several_formats() {
    let mut two = Ng::new(true);
    two.interface(1, 0, &[(2, b"a"), (9, &[0])])
        .interface(101, 0, &[(2, b"b"), (9, &[0])]);
    two.packet(1, 2, 1, b"n").packet(0, 4, 1, b"n");
    let set = [
        zstd(&file(b'z', &[1, 3, 8])),
        two.bytes,
        // Nothing in it, and one that is broken.
        pcap(&[]),
        file(b'x', &[6, 7])[..24 + 17 + 9].to_vec(),
    ];
    let paths = files("formats", &set);
    // z is open all the time; x takes the place of n, but is another interface.
    assert_eq!(order(&paths), ("znznxz".into(), vec![0, 2, 0, 1, 3, 0]));
    let mut capture = Capture::open(&paths).unwrap();
    drain(&mut capture);
    let packets: Vec<_> = capture.files().iter().map(|f| f.packets).collect();
    assert_eq!(packets, [3, 2, 0, 1]);
    let broken: Vec<_> = capture.files().iter().map(|f| f.damage.is_some()).collect();
    assert_eq!(broken, [false, false, false, true]);
    let names: Vec<_> = capture.interfaces().map(|i| i.name.clone()).collect();
    assert_eq!(names, [None, Some("a".into()), Some("b".into()), None]);
}
