//! TLS as it looks from outside (RFC 8446, sections 4.1.2 and 5.1).

/// A client's first message.
pub(crate) fn client_hello() -> Vec<u8> {
    let mut hello = vec![1, 0, 0, 41, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    let mut out = vec![22, 3, 1, 0, hello.len() as u8];
    out.extend(hello);
    out
}

/// A record of so many bytes of application data.
pub(crate) fn record(bytes: usize) -> Vec<u8> {
    let mut out = vec![23, 3, 3];
    out.extend((bytes as u16).to_be_bytes());
    out.resize(out.len() + bytes, 1);
    out
}
