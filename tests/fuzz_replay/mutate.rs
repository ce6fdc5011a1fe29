//! Changes of seeds, the same in every run.

/// A fixed sequence of numbers (xorshift64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64, target: &str) -> Self {
        let mix = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
        let state = target.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, mix);
        Self(state | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `n`; 0 where `n` is 0.
    fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 16) % n.max(1) as u64) as usize
    }
}

/// Longest input that is made. Bytes.
const MAX_LEN: usize = 64 << 10;

/// Numbers at which programs break.
const EDGES: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x0010_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// An input made of one seed, or two.
pub(crate) fn change(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut out = seeds[dice.below(seeds.len())].clone();
    for _ in 0..1 + dice.below(6) {
        let at = dice.below(out.len());
        let n = (1 + dice.below(64)).min(out.len() - at);
        match dice.below(10) {
            _ if out.is_empty() => out.push(dice.next() as u8),
            0 => out[at] ^= 1 << dice.below(8),
            1 => out[at] = dice.next() as u8,
            2 => out.insert(at, dice.next() as u8),
            3 => {
                out.drain(at..at + n);
            }
            4 => {
                let again = out[at..at + n].to_vec();
                let to = dice.below(out.len());
                out.splice(to..to, again);
            }
            5 => out.truncate(at),
            6 => {
                let other = &seeds[dice.below(seeds.len())];
                let from = dice.below(other.len());
                out.truncate(at);
                out.extend_from_slice(&other[from..]);
            }
            // Numbers of one to eight bytes, of either order.
            kind => {
                let width = 1 << dice.below(4);
                let edge = EDGES[dice.below(EDGES.len())].to_be_bytes();
                let mut bytes = edge[8 - width..].to_vec();
                if kind == 9 {
                    bytes.reverse();
                }
                for (to, from) in out[at..].iter_mut().zip(bytes) {
                    *to = from;
                }
            }
        }
        out.truncate(MAX_LEN);
    }
    out
}
