//! The program: arguments in, exit code out.

// What strangers wrote makes nothing panic. Tests may.
#![cfg_attr(
    not(test),
    warn(
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::run()
}
