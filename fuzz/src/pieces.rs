//! The same bytes in one piece and in many.

/// Takes the seed of a cutting from the front: two bytes.
pub fn seed(data: &[u8]) -> (u16, &[u8]) {
    match data {
        [a, b, rest @ ..] => (u16::from_le_bytes([*a, *b]), rest),
        _ => (0, data),
    }
}

/// Cuts bytes into pieces, none empty; the seed tells how. Some cuttings are fine, some coarse.
pub fn cut(seed: u16, data: &[u8]) -> Vec<&[u8]> {
    let most = match seed % 4 {
        0 => 1,
        1 => 7,
        2 => 64,
        _ => 1500,
    };
    let mut state = u32::from(seed) | 0x1_0000;
    let mut rest = data;
    let mut out = Vec::new();
    while !rest.is_empty() {
        // xorshift32.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let (piece, more) = rest.split_at((1 + state as usize % most).min(rest.len()));
        out.push(piece);
        rest = more;
    }
    out
}

/// Runs `log` on the bytes in one piece and cut by the seed; both must say the same. Gives what
/// they say.
pub fn both<T: PartialEq + std::fmt::Debug>(
    seed: u16,
    data: &[u8],
    log: impl Fn(&[&[u8]]) -> T,
) -> T {
    let whole = log(&[data]);
    let pieces = cut(seed, data);
    let parts = log(&pieces);
    if whole != parts {
        let (whole, parts) = (format!("{whole:?}"), format!("{parts:?}"));
        let same = whole.bytes().zip(parts.bytes());
        let same = same.take_while(|(a, b)| a == b).count();
        let from = same.saturating_sub(300);
        let near = |s: &str| {
            let near: Vec<u8> = s.bytes().skip(from).take(600).collect();
            String::from_utf8_lossy(&near).into_owned()
        };
        let sizes: Vec<usize> = pieces.iter().map(|p| p.len()).take(200).collect();
        let (whole, parts) = (near(&whole), near(&parts));
        panic!("in one piece: {whole}\nin pieces of {sizes:?}: {parts}");
    }
    whole
}

/// Structure that a decoder has shown: none of it twice with different bytes, none outside.
#[derive(Default, PartialEq, Eq)]
pub struct Shown(Vec<Option<u8>>);

/// In hexadecimal; `__` is a byte that was not shown.
impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| match b {
            Some(b) => write!(f, "{b:02x}"),
            None => write!(f, "__"),
        })
    }
}

impl Shown {
    /// Takes bytes that were revealed at an offset.
    pub fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        let from = usize::try_from(offset).expect("inside the input");
        let to = from + bytes.len();
        self.0.resize(self.0.len().max(to), None);
        for (place, b) in self.0[from..to].iter_mut().zip(bytes) {
            assert!(place.is_none_or(|old| old == *b), "two bytes at one place");
            *place = Some(*b);
        }
    }

    /// Every byte shown is the input's.
    pub fn check(&self, data: &[u8]) {
        assert!(self.0.len() <= data.len(), "shown beyond the input");
        for (shown, real) in self.0.iter().zip(data) {
            assert!(shown.is_none_or(|b| b == *real), "another byte shown");
        }
    }
}

/// What a decoder said, up to the first loss of its step: in search of it, a candidate may be
/// judged by what lies behind it in the slice.
#[derive(Debug, Default)]
pub struct Log {
    /// What was said.
    pub items: Vec<String>,
    /// What it showed.
    pub shown: Shown,
    /// It was out of step, or is.
    pub lost: bool,
}

impl PartialEq for Log {
    fn eq(&self, other: &Self) -> bool {
        let whole = !self.lost && !other.lost;
        self.items == other.items && (!whole || self.shown == other.shown)
    }
}

impl Log {
    /// Takes what was said.
    pub fn add(&mut self, item: impl FnOnce() -> String) {
        if !self.lost {
            self.items.push(item());
        }
    }
}
