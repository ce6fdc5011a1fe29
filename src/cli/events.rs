//! `phasescope events`

use clap::{Args, ValueEnum};
use phasescope::dissect::amqp::Said;
use phasescope::dissect::event::{Event, Kind};
use phasescope::dissect::{Dissector, Sink};
use phasescope::migration::openstack::is_of_live_migration;
use phasescope::report::events::{OpenConnections, json, line};
use phasescope::time::Timestamp;
use phasescope_parsers::openstack::Action;

use super::input::{Input, warn_of_damage};
use super::output::Output;
use super::sandbox::Reach;
use super::{EXIT_CODES, Failure, exit};

/// Print what the protocols said, in order, one line each
///
/// Frame number, seconds since the first packet, connection, and what was said. Echo requests and
/// replies are left out; `analyze` sums them up.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Events {
    #[command(flatten)]
    input: Input,

    /// How to print them
    #[arg(long, value_enum, default_value_t = EventFormat::Text)]
    format: EventFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EventFormat {
    /// One line each
    Text,
    /// One JSON object a line
    Ndjson,
}

/// Prints events as they come.
struct Printer {
    out: Output,
    format: EventFormat,
    connections: OpenConnections,
    first: Option<Timestamp>,
    migration: bool,
    failed: Option<Failure>,
}

impl Sink for Printer {
    fn event(&mut self, event: Event) {
        match &event.kind {
            Kind::Qemu(_) => self.migration = true,
            Kind::Amqp(a) => {
                if let Said::Message(m) = &a.what {
                    let method = m.envelope.as_ref().and_then(|e| e.method.as_deref());
                    self.migration |= method.is_some_and(is_of_live_migration);
                }
            }
            Kind::Http(h) => self.migration |= h.fields.action == Some(Action::LiveMigrate),
            _ => {}
        }
        let ends = self.connections.take(&event);
        let first = self.first.unwrap_or(event.stamp.time);
        let text = match self.format {
            EventFormat::Text => line(&event, ends, first),
            EventFormat::Ndjson => json(&event, ends, first),
        };
        if let (Some(text), None) = (text, &self.failed)
            && let Err(e) = self.out.put(&(text + "\n"))
        {
            self.failed = Some(e);
        }
    }
}

impl Events {
    pub(crate) fn reach(&self) -> Reach {
        self.input.reach()
    }

    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let mut capture = self.input.open()?;
        let mut watch = self.input.watch();
        let mut printer = Printer {
            out: Output::open(None)?,
            format: self.format,
            connections: OpenConnections::default(),
            first: None,
            migration: false,
            failed: None,
        };
        let mut dissector = Dissector::default();
        while let Some(frame) = capture.next_frame()? {
            printer.first.get_or_insert(frame.time);
            let number = frame.number;
            dissector.frame(&frame, &mut printer);
            if let Some(f) = printer.failed.take() {
                return Err(f);
            }
            if number % 4096 == 0 && !watch.proceed(&capture) {
                break;
            }
        }
        watch.clear();
        dissector.finish(&mut printer);
        if let Some(f) = printer.failed.take() {
            return Err(f);
        }
        printer.out.finish()?;
        warn_of_damage(&capture);
        Ok(if printer.migration {
            exit::FOUND
        } else {
            exit::NO_MIGRATION
        })
    }
}
