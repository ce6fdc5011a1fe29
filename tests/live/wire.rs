//! Real capture: a trace replayed into a virtual cable in a network namespace. Needs root, `ip` and
//! `tcpreplay`; says so where it cannot run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use phasescope::capture::{Capture, Format, Interface, LinkType, Options, write::Writer};
use phasescope::report::Report;

use crate::{Kept, TRACES, folder, offline, path, path_in_target, skipped};

const LOST: &str = "dpmi-measurement-frames-lost";

/// A namespace with a cable in it, `out` to `tap`; gone when dropped.
struct Net(String);

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

impl Net {
    fn new(name: &str) -> Option<Self> {
        for (what, there) in [
            ("root", runs("sh", &["-c", "test $(id -u) = 0"])),
            ("ip", runs("ip", &["-V"])),
            ("tcpreplay", runs("tcpreplay", &["--version"])),
        ] {
            if !there {
                skipped(&format!("live capture is tested only with {what}"));
                return None;
            }
        }
        let name = format!("ps-{name}-{}", std::process::id());
        if !runs("ip", &["netns", "add", &name]) {
            skipped("no network namespace can be made here");
            return None;
        }
        let net = Self(name);
        net.cable("out", "tap");
        Some(net)
    }

    fn cable(&self, a: &str, b: &str) {
        self.ip(&format!("link add {a} type veth peer name {b}"));
        for end in [a, b] {
            // Nothing of its own on the wire, and room for joined segments.
            self.sh(&format!("sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1"));
            self.ip(&format!("link set {end} mtu 65535 up arp off"));
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut c = Command::new("ip");
        c.args(["netns", "exec", &self.0, program]);
        c.stdin(Stdio::null());
        c
    }

    fn sh(&self, line: &str) {
        let done = self.command("sh").args(["-c", line]).output().unwrap();
        assert!(done.status.success(), "{line}: {done:?}");
    }

    fn ip(&self, arguments: &str) {
        self.sh(&format!("ip {arguments}"));
    }

    fn live(&self, arguments: &[&str]) -> Kept {
        self.live_on(&[&["--interface", "tap"], arguments].concat())
    }

    /// Where the lines of the latest one are.
    fn told(&self) -> PathBuf {
        path_in_target(&format!("told-{}", self.0)).join("lines.ndjson")
    }

    /// Packets that the latest one captured and could not record in time.
    fn not_recorded(&self) -> u64 {
        let lines = std::fs::read_to_string(self.told()).unwrap();
        let lines = lines
            .lines()
            .rev()
            .map(|l| serde_json::from_str(l).unwrap());
        let told = lines
            .into_iter()
            .find(|v: &serde_json::Value| v["type"] == "dropped");
        told.map_or(0, |v| v["recorder"].as_u64().unwrap())
    }

    /// It captures, behind its filter, when it has told its first line.
    fn live_on(&self, arguments: &[&str]) -> Kept {
        folder(&format!("told-{}", self.0));
        let told = self.told();
        let mut live = self.headless(arguments);
        live.stdout(std::fs::File::create(&told).unwrap());
        let mut child = Kept(live.spawn().unwrap());
        let begun = Instant::now();
        while std::fs::metadata(&told).unwrap().len() == 0 {
            assert!(child.0.try_wait().unwrap().is_none(), "it ended");
            assert!(begun.elapsed() < Duration::from_secs(60), "no capture");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    fn headless(&self, arguments: &[&str]) -> Command {
        let mut c = self.command(env!("CARGO_BIN_EXE_phasescope"));
        c.args(["live", "--headless"]).args(arguments);
        c
    }

    /// Captures into a file, where there is tcpdump; what it says goes into another one.
    fn tcpdump(&self, file: &Path, words: &Path) -> Option<Kept> {
        let mut c = self.command("tcpdump");
        c.args(["-i", "tap", "-p", "-U", "-B", "65536", "-Z", "root"]);
        c.args(["--time-stamp-precision=nano", "-w"]).arg(file);
        c.stderr(std::fs::File::create(words).unwrap());
        let mut child = Kept(c.spawn().ok()?);
        let begun = Instant::now();
        // It says so when it listens.
        while !std::fs::read_to_string(words)
            .unwrap()
            .contains("listening on")
        {
            if child.0.try_wait().unwrap().is_some() || begun.elapsed() > Duration::from_secs(60) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(child)
    }

    /// Frames that the kernel dropped on their way into the cable: the receiving end's backlog was
    /// full.
    fn dropped(&self, device: &str) -> u64 {
        let line = format!("cat /sys/class/net/{device}/statistics/tx_dropped");
        let said = self.command("sh").args(["-c", &line]).output().unwrap();
        String::from_utf8_lossy(&said.stdout)
            .trim()
            .parse()
            .unwrap()
    }

    fn replay(&self, file: &Path, arguments: &[&str]) {
        let done = self.tcpreplay("out", file, arguments).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    fn tcpreplay(&self, device: &str, file: &Path, arguments: &[&str]) -> Command {
        // It sleeps between packets: on a busy machine each of them would wait for its turn.
        let mut c = self.command("nice");
        c.args(["-n", "-10", "tcpreplay", "-q", "-i", device]);
        c.args(arguments).arg(file);
        c
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        runs("ip", &["netns", "del", &self.0]);
    }
}

fn terminate(mut child: Kept) {
    child.terminate();
    assert!(child.wait().success());
}

/// The fixture as tcpreplay reads it.
fn plain(name: &str, folder: &Path) -> PathBuf {
    let file = folder.join("plain.pcap");
    let mut capture = Capture::open(&[path(name)]).unwrap();
    let mut writer = Writer::create(&file, Format::PcapNanos).unwrap();
    let interface = ethernet();
    while let Some(frame) = capture.next_frame().unwrap() {
        writer.frame(&frame, std::iter::once(&interface)).unwrap();
    }
    writer.finish().unwrap();
    file
}

fn ethernet() -> Interface {
    Interface {
        link: LinkType::Ethernet,
        name: None,
        point: None,
        snap_length: 0,
    }
}

fn read(file: &Path) -> Report {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// How fast a trace is replayed: as a share of its own pace, and slower where the kernel counted
/// drops, as it does on a busy machine. At the last pace there must be none.
const PACES: [&str; 4] = [
    "--multiplier=5",
    "--multiplier=2",
    "--multiplier=1",
    "--multiplier=0.3",
];

/// A trace as it was captured live, and the files of those who captured it.
struct Heard {
    report: Report,
    files: Vec<PathBuf>,
}

/// Replays a trace at this pace; `None` where a frame was dropped, which whoever dropped it counted.
fn hear(net: &Net, trace: &Path, sent: u64, pace: &str, folder: &Path) -> Option<Heard> {
    let (report, kept) = (folder.join("report.json"), folder.join("kept.pcapng"));
    let (r, k) = (report.to_str().unwrap(), kept.to_str().unwrap());
    let (other, words) = (folder.join("tcpdump.pcap"), folder.join("tcpdump.txt"));
    let dropped = net.dropped("out");
    let tcpdump = net.tcpdump(&other, &words);
    let child = net.live(&["--report", r, "--write", k, "--force"]);
    // Its pace is its own affair: what it really sent, and when, the other capture tells.
    net.replay(trace, &["--preload-pcap", "--timer=gtod", pace]);
    terminate(child);
    let report = read(&report);
    let mut drops = net.dropped("out") - dropped + net.not_recorded();
    drops += report.capture.health.dropped_packets.unwrap();
    let mut files = vec![kept];
    if let Some(tcpdump) = tcpdump {
        // It hands its last packets over once a second.
        let begun = Instant::now();
        while offline(&other).capture.packets < sent && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(200));
        }
        terminate(tcpdump);
        let words = std::fs::read_to_string(&words).unwrap();
        let line = words.lines().find(|l| l.contains("dropped by kernel"));
        let own: u64 = line.unwrap().split_once(' ').unwrap().0.parse().unwrap();
        drops += own;
        files.push(other);
    } else {
        skipped("another capture to compare with needs tcpdump");
    }
    (drops == 0).then_some(Heard { report, files })
}

#[test]
fn the_live_report_is_the_offline_one() {
    let Some(net) = Net::new("report") else {
        return;
    };
    let folder = folder("wire");
    for name in TRACES {
        let fixture = format!("fixtures/{name}.pcap.zst");
        let file = plain(&fixture, &folder);
        let trace = offline(&path(&fixture));
        let sent = trace.capture.packets;
        let heard = PACES
            .iter()
            .find_map(|pace| hear(&net, &file, sent, pace, &folder));
        let Heard {
            report: live,
            files,
        } = heard.expect("frames are dropped at every pace");

        // Offline, of the frames that it kept, and of those that tcpdump captured beside it, with
        // the same stamps of the kernel: nothing differs.
        let json = |r: &Report| serde_json::to_value(&r.migrations).unwrap();
        for file in files {
            let same = offline(&file);
            assert_eq!(live.capture.packets, same.capture.packets, "{file:?}");
            assert_eq!(json(&live), json(&same), "{file:?}");
        }

        // Of the trace: the same but for the times.
        assert_eq!(live.capture.packets, sent);
        assert_eq!(live.migrations.len(), trace.migrations.len());
        for (a, b) in live.migrations.iter().zip(&trace.migrations) {
            assert_eq!(a.guest.name, b.guest.name);
            assert_eq!(a.outcome.result, b.outcome.result);
            let (s, t) = (a.transfer.as_ref().unwrap(), b.transfer.as_ref().unwrap());
            assert_eq!(s.pages, t.pages);
            assert_eq!(s.page_bytes, t.page_bytes);
            assert_eq!(s.transferred_bytes, t.transferred_bytes);
            assert_eq!(s.rounds.len(), t.rounds.len());
            assert_eq!(a.phases.len(), b.phases.len());
            for (p, q) in a.phases.iter().zip(&b.phases) {
                assert_eq!(p.name, q.name);
                assert_eq!(p.duration_ns.is_some(), q.duration_ns.is_some());
                let frame = |b: &Option<phasescope::migration::Boundary>| {
                    b.as_ref().map(|b| (b.frame, b.marker.clone()))
                };
                assert_eq!(frame(&p.start), frame(&q.start));
                assert_eq!(frame(&p.end), frame(&q.end));
            }
        }
    }
}

#[test]
fn several_devices_are_one_capture() {
    let Some(net) = Net::new("devices") else {
        return;
    };
    net.cable("out2", "tap2");
    let folder = folder("wire-devices");
    // libvirt's connection passes one device, everything else the other; a blank frame
    // goes before both, so that both begin at the same time of the trace.
    let devices = ["out", "out2"];
    let files = devices.map(|d| folder.join(format!("{d}.pcap")));
    let open = || Capture::open(&[path(crate::IDLE)]).unwrap();
    let begin = open().next_frame().unwrap().unwrap().time;
    for (file, filter) in files.iter().zip(["tcp port 16509", "not tcp port 16509"]) {
        let mut capture = open();
        capture.set_filter(filter).unwrap();
        let mut writer = Writer::create(file, Format::PcapNanos).unwrap();
        let interface = ethernet();
        let blank = [0; 60];
        let marker = phasescope::capture::Frame {
            number: 1,
            time: begin,
            interface: 0,
            link: LinkType::Ethernet,
            wire_len: 60,
            data: &blank,
        };
        writer.frame(&marker, std::iter::once(&interface)).unwrap();
        while let Some(frame) = capture.next_frame().unwrap() {
            writer.frame(&frame, std::iter::once(&interface)).unwrap();
        }
        writer.finish().unwrap();
    }
    let (report, kept) = (folder.join("report.json"), folder.join("kept.pcapng"));
    let (r, k) = (report.to_str().unwrap(), kept.to_str().unwrap());
    let arguments = [
        "-i", "tap", "-i", "tap2", "--report", r, "--write", k, "--force",
    ];
    let hear = |pace: &&str| {
        let dropped = || devices.iter().map(|d| net.dropped(d)).sum::<u64>();
        let before = dropped();
        let child = net.live_on(&arguments);
        let replays: Vec<_> = devices
            .iter()
            .zip(&files)
            .map(|(device, file)| {
                let mut c = net.tcpreplay(device, file, &["--preload-pcap", pace]);
                c.stdout(Stdio::null()).stderr(Stdio::null());
                Kept(c.spawn().unwrap())
            })
            .collect();
        for mut r in replays {
            assert!(r.wait_for(Duration::from_secs(300)).success());
        }
        terminate(child);
        let live = read(&report);
        let mut drops = live.capture.health.dropped_packets.unwrap() + dropped() - before;
        drops += net.not_recorded();
        (drops == 0).then_some(live)
    };
    let live = PACES[2..].iter().find_map(hear);
    let live = live.expect("frames are dropped at every pace");
    assert_eq!(live.capture.files, ["tap", "tap2"]);
    let all: u64 = files.iter().map(|f| offline(f).capture.packets).sum();
    assert_eq!(live.capture.packets, all);
    let same = offline(&kept);
    assert_eq!(same.capture.packets, all);
    let json = |r: &Report| serde_json::to_value(&r.migrations).unwrap();
    assert_eq!(json(&live), json(&same));
    // How the two replays keep pace with each other is the machine's affair, so that the stream may
    // be late; but both devices were listened to.
    assert!(!live.migrations.is_empty());
    assert_eq!(live.capture.connections, 2);
    // pcap has one interface.
    let said = |arguments: &[&str]| net.headless(arguments).output().unwrap();
    let words = said(&["-i", "tap", "-i", "tap2", "-w", "x.pcap"]);
    assert_eq!(words.status.code(), Some(2), "{words:?}");
    let words = said(&["-i", "tap", "-i", "nothing"]);
    assert_eq!(words.status.code(), Some(1), "{words:?}");
    assert!(String::from_utf8_lossy(&words.stderr).contains("nothing: "));
}

/// Packets inside the packets of a DPMI stream, and their bytes.
fn carried(stream: PathBuf) -> (u64, u64) {
    let inside = Options { dpmi_inside: true };
    let mut capture = Capture::open_with(&[stream], inside).unwrap();
    let (mut packets, mut bytes) = (0, 0);
    while let Some(frame) = capture.next_frame().unwrap() {
        packets += 1;
        bytes += u64::from(frame.wire_len);
    }
    (packets, bytes)
}

/// A datagram around the payload, as a router sends it on.
fn datagram(payload: &[u8], number: u16) -> Vec<u8> {
    // To the group's Ethernet address (RFC 1112, section 6.4).
    let mut f = vec![1, 0, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0];
    let length = 20 + 8 + payload.len() as u16;
    // RFC 791: version and header length, total length, no fragments, one hop, UDP.
    let mut ip = vec![0x45, 0];
    ip.extend(length.to_be_bytes());
    ip.extend(number.to_be_bytes());
    ip.extend([0x40, 0, 1, 17, 0, 0, 10, 0, 9, 1, 239, 0, 0, 1]);
    let sum: u32 = ip
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    f.extend(ip);
    // RFC 768; without a checksum.
    for word in [40_000, 2064, 8 + payload.len() as u16, 0] {
        f.extend(word.to_be_bytes());
    }
    f.extend(payload);
    f
}

#[test]
fn a_dpmi_stream_to_a_group() {
    let Some(net) = Net::new("group") else {
        return;
    };
    net.ip("address add 10.0.9.2/24 dev tap");
    net.ip("route add 239.0.0.0/8 dev tap");
    let folder = folder("wire-group");
    let stream = path("fixtures/dpmi/live-eth.stream.pcap");
    let mut capture = Capture::open(std::slice::from_ref(&stream)).unwrap();
    let file = folder.join("group.pcap");
    let mut writer = Writer::create(&file, Format::PcapNanos).unwrap();
    let interface = ethernet();
    let mut sent = 0;
    while let Some(frame) = capture.next_frame().unwrap() {
        if frame.data[12..14] != [0x08, 0x10] {
            continue;
        }
        sent += 1;
        let data = datagram(&frame.data[14..], sent);
        let frame = phasescope::capture::Frame {
            wire_len: data.len() as u32,
            data: &data,
            ..frame
        };
        writer.frame(&frame, std::iter::once(&interface)).unwrap();
    }
    writer.finish().unwrap();
    assert!(sent > 1);
    let report = folder.join("report.json");
    let r = report.to_str().unwrap();
    let child = net.live_on(&["--dpmi", "udp://239.0.0.1:2064", "--report", r]);
    net.replay(&file, &["--mbps=10"]);
    terminate(child);
    let live = read(&report).capture;
    let (packets, bytes) = carried(stream);
    assert_eq!((live.packets, live.bytes), (packets, bytes));
    assert_eq!(live.files, ["dpmi udp://239.0.0.1:2064"]);
    assert!(!live.health.oddities.contains_key(LOST));
}

#[test]
fn a_filter_and_a_snap_length() {
    let Some(net) = Net::new("filter") else {
        return;
    };
    let folder = folder("wire-filter");
    let trace = plain(crate::IDLE, &folder);
    let report = folder.join("report.json");
    let r = report.to_str().unwrap();
    let child = net.live(&["--report", r, "-f", "tcp port 16509", "-s", "96"]);
    net.replay(&trace, &["--mbps=1000"]);
    terminate(child);
    let live = read(&report);
    assert_eq!(live.capture.connections, 1);
    assert!(live.capture.health.cut_packets > 0);
    assert_eq!(live.capture.files, ["tap"]);
    assert_eq!(live.capture.format, "live");
}

#[test]
fn a_dpmi_stream_over_ethernet() {
    let Some(net) = Net::new("dpmi") else {
        return;
    };
    let stream = path("fixtures/dpmi/live-eth.stream.pcap");
    let mut carrier = Capture::open(std::slice::from_ref(&stream)).unwrap();
    let first = carrier.next_frame().unwrap().unwrap();
    let group: Vec<String> = first.data[..6].iter().map(|b| format!("{b:02x}")).collect();
    let address = format!("tap/{}", group.join(":"));
    let report = folder("wire-dpmi").join("report.json");
    let r = report.to_str().unwrap();
    let child = net.live_on(&["--dpmi", &address, "--report", r]);
    net.replay(&stream, &["--mbps=10"]);
    terminate(child);
    let live = read(&report).capture;
    let (packets, bytes) = carried(stream);
    assert!(packets > 0);
    assert_eq!((live.packets, live.bytes), (packets, bytes));
    assert_eq!(live.format, "dpmi");
    assert!(!live.health.oddities.contains_key(LOST));
}

#[test]
fn without_the_right_it_says_what_to_do() {
    let Some(net) = Net::new("right") else {
        return;
    };
    if !runs("setpriv", &["--version"]) {
        skipped("missing rights are tested only with setpriv");
        return;
    }
    // Where others may run it.
    let program = std::env::temp_dir().join(format!("phasescope-{}", std::process::id()));
    std::fs::copy(env!("CARGO_BIN_EXE_phasescope"), &program).unwrap();
    let out = net
        .command("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["live", "--headless", "-i", "tap"])
        .output()
        .unwrap();
    std::fs::remove_file(&program).unwrap();
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{words}");
    assert!(words.contains("no right to capture"), "{words}");
    assert!(
        words.contains("sudo setcap cap_net_raw,cap_net_admin=eip"),
        "{words}"
    );
}

#[test]
fn types_of_time_stamps() {
    let Some(net) = Net::new("stamps") else {
        return;
    };
    let run = |arguments: &[&str]| net.headless(arguments).output().unwrap();
    // A virtual cable has no clock of its own.
    let out = run(&["-i", "tap", "-i", "any", "-J"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let first: Vec<_> = text
        .lines()
        .map(|l| l.split_whitespace().take(2).collect::<Vec<_>>())
        .collect();
    assert_eq!(first, [["tap", "host"], ["any", "host"]], "{out:?}");
    let said = |arguments: &[&str], code: i32, words: &str| {
        let out = run(arguments);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{text}");
        assert!(text.contains(words), "{text}");
    };
    said(
        &["-i", "tap", "-j", "adapter"],
        1,
        "tap: no time stamps of type adapter; -J",
    );
    said(&["-i", "tap", "-j", "sundial"], 2, "adapter_unsynced");
    said(&["-i", "none", "-J"], 1, "none: ");
    let child = net.live(&["-j", "host"]);
    terminate(child);
}

#[test]
fn root_is_given_up() {
    let Some(net) = Net::new("root") else {
        return;
    };
    let child = net.live(&["--user", "nobody"]);
    let begun = Instant::now();
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.0.id())).unwrap();
        let uid = status.lines().find(|l| l.starts_with("Uid:")).unwrap();
        if uid.split_whitespace().skip(1).all(|id| id == "65534") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{uid}");
        std::thread::sleep(Duration::from_millis(20));
    }
    terminate(child);
}
