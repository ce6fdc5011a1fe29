//! Tokens, compared without being kept.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// Drawn anew for every run of the program: a hash says nothing to anybody else.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The keyed hash of a token.
pub(super) fn keyed(token: &[u8]) -> u64 {
    KEY.hash_one(token)
}

/// A token that can be compared with another one, and nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    /// From its keyed hash.
    pub(super) fn new(hash: u64) -> Self {
        Self(hash)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}
