//! `phasescope scrub`

use std::path::PathBuf;

use clap::Args;
use phasescope::capture::write::Writer;
use phasescope::scrub::{self, ScrubError};

use super::input::{Options, warn_of_damage};
use super::output::complain;
use super::sandbox::Reach;
use super::{Failure, exit};

/// Copy a capture without the guest's memory and without secrets
///
/// The copy has the same packets: times, sizes, order and interfaces. Page contents, device
/// state, passwords and every payload that is not understood are blank; checksums are right.
/// `analyze` gives the same report for the copy. The ending of OUT's name compresses it: .zst
/// (as zstd -19 --long=27) or .gz.
#[derive(Debug, Args)]
pub(crate) struct Scrub {
    /// One or more captures, and last the copy, which is written whole or not at all
    #[arg(required = true, num_args = 2.., value_names = ["IN", "OUT"])]
    files: Vec<PathBuf>,

    #[command(flatten)]
    options: Options,

    /// Join segments that hold nothing but pages, and leave out the acknowledgements between them:
    /// a much smaller file with the same boundaries and times, but other frame numbers and counts
    #[arg(long)]
    thin: bool,

    /// Replace OUT if it exists
    #[arg(long)]
    force: bool,
}

impl Scrub {
    pub(crate) fn reach(&self) -> Reach {
        let (out, inputs) = match self.files.split_last() {
            Some((out, inputs)) => (Some(out.as_path()), inputs),
            None => (None, [].as_slice()),
        };
        self.options.reach(inputs).writes(out)
    }

    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let Some((out, inputs)) = self.files.split_last() else {
            return Err(Failure::Other("IN and OUT are needed".to_owned()));
        };
        let failed = |source| Failure::Write {
            name: out.display().to_string(),
            source,
        };
        if out.exists() && !self.force {
            return Err(Failure::Other(format!(
                "{}: exists already; --force replaces it",
                out.display()
            )));
        }
        let mut capture = self.options.open(inputs)?;
        let mut writer = Writer::create(out, scrub::format_for(&capture)).map_err(failed)?;
        let mut watch = self.options.watch();
        let done = scrub::scrub(
            &mut capture,
            self.thin,
            |capture, frame| writer.frame(frame, capture.interfaces()),
            |c| watch.proceed(c),
        );
        watch.clear();
        let summary = match done {
            Ok(summary) => summary,
            Err(ScrubError::Capture(e)) => return Err(e.into()),
            Err(ScrubError::Write(e)) => return Err(failed(e)),
        };
        warn_of_damage(&capture);
        if watch.stopped() {
            return Err(Failure::Other(
                "interrupted: nothing was written".to_owned(),
            ));
        }
        writer.finish().map_err(failed)?;
        if summary.hurried > 0 {
            complain(&format!(
                "warning: {} packets waited too long for their connection's next bytes and are blank",
                summary.hurried
            ));
        }
        Ok(exit::FOUND)
    }
}
