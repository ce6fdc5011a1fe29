//! SSH identification lines.

use phasescope_parsers::qemu::Probe;
use phasescope_parsers::ssh::{identification, probe};
use proptest::prelude::*;

#[test]
fn lines() {
    let line = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n\0\0\x05";
    assert_eq!(probe(line), Probe::Yes);
    let i = identification(line).unwrap();
    assert_eq!(i.protocol, "2.0");
    assert_eq!(i.software, "OpenSSH_9.2p1");
    assert_eq!(i.comments, "Debian-2+deb12u3");
    let i = identification(b"SSH-1.99-libssh-0.9\n").unwrap();
    assert_eq!((i.protocol, i.software), ("1.99", "libssh-0.9"));
    assert_eq!(identification(b"SSH-2.0-OpenSSH"), None);
    assert_eq!(identification(b"SSH-2.0-a\x01b\r\n"), None);
    assert_eq!(probe(b"SSH-1.5-x"), Probe::No);
    assert_eq!(probe(b"HTTP/1.1"), Probe::No);
    for n in 0..8 {
        assert_eq!(probe(&line[..n]), Probe::NeedMore);
    }
    let mut long = b"SSH-2.0-".to_vec();
    long.resize(253, b'x');
    long.extend_from_slice(b"\r\n");
    assert!(identification(&long).is_some());
    long.insert(20, b'x');
    assert_eq!(identification(&long), None);
}

proptest! {
    #[test]
    fn noise(s in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut all = b"SSH-2.0-".to_vec();
        all.extend(&s);
        let _ = (probe(&s), identification(&s), identification(&all));
    }
}
