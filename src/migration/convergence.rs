//! Do the rounds get smaller? In words, for a report.

use super::Round;

/// Rounds after the first that are needed for a judgement.
const MIN_ROUNDS: usize = 4;

/// A round that carries at least so many percent of the one before has gained nothing.
const NO_GAIN_PERCENT: u64 = 95;

/// What there is to say of rounds that do not converge. The first round is all of memory, and the
/// last one is sent with the guest stopped: neither says how fast memory is dirtied.
pub(super) fn words(rounds: &[Round]) -> Option<String> {
    let later: Vec<u64> = rounds
        .iter()
        .skip(1)
        .filter(|r| !r.stopped)
        .map(|r| r.pages)
        .collect();
    if later.len() < MIN_ROUNDS {
        return None;
    }
    let steps = later.len() - 1;
    let idle = later
        .windows(2)
        .filter(|w| w[1] * 100 >= w[0] * NO_GAIN_PERCENT)
        .count();
    if idle * 2 < steps {
        return None;
    }
    let (least, most) = (later.iter().min()?, later.iter().max()?);
    Some(format!(
        "the rounds did not converge: in {idle} of {steps} rounds after the second about as much was sent as in the one before ({least} to {most} pages a round); the guest dirtied memory as fast as it was sent"
    ))
}
