//! The same methods in the same frames as tshark's dissectors find.

use std::process::Command;

use phasescope::capture::Capture;
use phasescope::dissect::amqp::Said;
use phasescope::dissect::event::Kind;
use phasescope::dissect::{Dissector, Event, Sink};
use phasescope_parsers::amqp::ContentMethod;

use super::path;

#[derive(Default)]
struct Found {
    /// Frame, class and method.
    amqp: Vec<(u64, u16, u16)>,
    /// Frame; method of a request or status of a response.
    http: Vec<(u64, String)>,
}

impl Sink for Found {
    fn event(&mut self, event: Event) {
        match event.kind {
            Kind::Amqp(a) => match a.what {
                Said::Method { number, .. } => {
                    self.amqp.push((event.stamp.frame, number.0, number.1));
                }
                Said::Message(m) => {
                    let method = match m.method {
                        ContentMethod::Publish => 40,
                        ContentMethod::Deliver => 60,
                        ContentMethod::GetOk => 71,
                        ContentMethod::Return => 50,
                        ContentMethod::Unknown => return,
                    };
                    self.amqp.push((event.begin.frame, 60, method));
                }
                Said::ProtocolHeader(_) => {}
            },
            Kind::Http(h) => {
                let what = match (&h.response, &h.request) {
                    (Some(r), _) => r.status.to_string(),
                    (None, Some(q)) => q.method.name().to_owned(),
                    (None, None) => return,
                };
                self.http.push((event.stamp.frame, what));
            }
            _ => {}
        }
    }
}

fn ours(file: &str) -> Found {
    let mut capture = Capture::open(&[path(file)]).unwrap();
    let (mut dissector, mut found) = (Dissector::default(), Found::default());
    while let Some(frame) = capture.next_frame().unwrap() {
        dissector.frame(&frame, &mut found);
    }
    dissector.finish(&mut found);
    found.amqp.sort_unstable();
    found.http.sort_unstable();
    found
}

/// Lines of tab-separated fields; `None` where there is no tshark.
fn tshark(file: &str, filter: &str, fields: &[&str]) -> Option<Vec<Vec<String>>> {
    let bytes = zstd::decode_all(std::fs::File::open(path(file)).unwrap()).unwrap();
    let plain =
        std::env::temp_dir().join(format!("phasescope-tshark-{}-{file}", std::process::id()));
    std::fs::write(&plain, bytes).unwrap();
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(&plain)
        .args(["-Y", filter, "-T", "fields"]);
    // Segments out of order are put in order, as they are here.
    command.args(["-o", "tcp.reassemble_out_of_order:TRUE"]);
    for f in fields {
        command.args(["-e", f]);
    }
    let out = command.output();
    std::fs::remove_file(&plain).unwrap();
    let out = out.ok().filter(|o| o.status.success())?;
    let text = String::from_utf8(out.stdout).unwrap();
    let line = |l: &str| l.split('\t').map(str::to_owned).collect();
    Some(text.lines().map(line).collect())
}

#[test]
#[expect(clippy::print_stderr, reason = "says that it was skipped")]
fn the_same_methods_in_the_same_frames() {
    for file in ["os-live-source.pcap.zst", "os-live-switch.pcap.zst"] {
        let fields = ["frame.number", "amqp.method.class", "amqp.method.method"];
        let Some(rows) = tshark(file, "amqp.method.class", &fields) else {
            eprintln!("SKIPPED: tshark is not installed; AMQP and HTTP were not compared with it");
            return;
        };
        let mut theirs = Vec::new();
        for row in rows {
            let frame = row[0].parse().unwrap();
            for (class, method) in row[1].split(',').zip(row[2].split(',')) {
                theirs.push((frame, class.parse().unwrap(), method.parse().unwrap()));
            }
        }
        theirs.sort_unstable();
        let ours = ours(file);
        let lone = |a: &[(u64, u16, u16)], b: &[(u64, u16, u16)]| -> Vec<(u64, u16, u16)> {
            a.iter().filter(|x| !b.contains(x)).copied().collect()
        };
        assert_eq!(
            lone(&theirs, &ours.amqp),
            [],
            "{file}: only tshark has these"
        );
        assert_eq!(
            lone(&ours.amqp, &theirs),
            [],
            "{file}: tshark has not these"
        );
        assert_eq!(theirs.len(), ours.amqp.len());

        let fields = ["frame.number", "http.request.method", "http.response.code"];
        let rows = tshark(file, "http.request or http.response", &fields).unwrap();
        let mut theirs: Vec<(u64, String)> = rows
            .into_iter()
            .map(|r| (r[0].parse().unwrap(), format!("{}{}", r[1], r[2])))
            .collect();
        theirs.sort_unstable();
        assert_eq!(theirs, ours.http, "{file}");
    }
}
