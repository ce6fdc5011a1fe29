//! Frames from a network device, by libpcap.

use std::time::{Duration, Instant};

use pcap::{Active, Capture, Device, Precision};

use super::source::{DRAIN, Outlet, Shared, Source, SourceError};
use super::stamps::{self, Stamps};
use crate::capture::{FileSummary, Frame, Interface, LinkType, MAX_FRAME};
use crate::time::Timestamp;

/// The kernel's buffer for captured frames: a quarter of a second at 2 Gbit/s. Bytes.
pub const RING_BYTES: i32 = 64 << 20;

/// The kernel hands frames over in blocks; one that is not full waits so long. Milliseconds.
/// libpcap's immediate mode would hand over each frame alone, which costs most of the rate.
const BLOCK_WAIT_MS: i32 = 20;

/// Looks without a frame, a block's wait apart, after which the kernel has no more.
const SILENT: u32 = 3;

/// Frames handed over in one call.
const CALL_FRAMES: usize = 4096;

/// The kernel's counters are read so often.
const STATS_EVERY: Duration = Duration::from_millis(250);

/// How to open a device.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// In tcpdump's language. None takes all: protocols are told by what they say, on any port and
    /// inside tunnels, and no filter can see that.
    pub filter: Option<String>,
    /// Bytes captured of each frame; `None` is all.
    pub snap_length: Option<u32>,
    /// Whose clock.
    pub stamps: Stamps,
}

/// An open device.
pub struct LiveDevice {
    name: String,
    /// `None` where it has ended.
    capture: Option<Capture<Active>>,
    link: LinkType,
    snap_length: u32,
}

/// A counter that wraps around after 32 bits.
#[derive(Debug, Clone, Copy, Default)]
struct Counter(u32);

impl Counter {
    /// How much more it is than the last time.
    fn more(&mut self, value: u32) -> u64 {
        let last = std::mem::replace(&mut self.0, value);
        u64::from(value.wrapping_sub(last))
    }
}

/// libpcap's words without its prefix.
fn words(e: &pcap::Error) -> String {
    match e {
        pcap::Error::PcapError(s) => s.clone(),
        other => other.to_string(),
    }
}

fn refused(name: &str, e: &pcap::Error) -> SourceError {
    let reason = words(e);
    let low = reason.to_lowercase();
    if low.contains("permission") || low.contains("not permitted") {
        let program = std::env::current_exe();
        return SourceError::Permission {
            name: name.to_owned(),
            reason,
            program: program.map_or_else(|_| "phasescope".to_owned(), |p| p.display().to_string()),
        };
    }
    SourceError::Device {
        name: name.to_owned(),
        reason: if low.contains("no such device") {
            format!("{reason}; -D lists the devices")
        } else {
            reason
        },
    }
}

/// Has the device time stamps of this type?
fn check_stamps(name: &str, wanted: Stamps) -> Result<(), SourceError> {
    if wanted == Stamps::default() {
        return Ok(());
    }
    let reason = match stamps::supported(name) {
        Ok(all) if all.iter().any(|(s, ..)| *s == wanted) => return Ok(()),
        Ok(_) => format!(
            "no time stamps of type {}; -J lists the types",
            wanted.name()
        ),
        Err(e) => format!("cannot tell its types of time stamps: {e}"),
    };
    let name = name.to_owned();
    Err(SourceError::Device { name, reason })
}

impl LiveDevice {
    /// Opens it: every frame, also those for others, with nanoseconds.
    ///
    /// # Errors
    /// No such device, no right to, or a wrong filter.
    pub fn open(settings: &Settings) -> Result<Self, SourceError> {
        let name = settings.name.as_str();
        let failed = |e: pcap::Error| refused(name, &e);
        check_stamps(name, settings.stamps)?;
        let snap_length = settings.snap_length.unwrap_or(MAX_FRAME as u32);
        let mut capture = Capture::from_device(name)
            .map_err(failed)?
            .promisc(true)
            .snaplen(snap_length as i32)
            .buffer_size(RING_BYTES)
            .timeout(BLOCK_WAIT_MS)
            .precision(PRECISION)
            .tstamp_type(settings.stamps.of_pcap())
            .open()
            .map_err(failed)?;
        if let Some(filter) = &settings.filter {
            capture
                .filter(filter, true)
                .map_err(|e| SourceError::Device {
                    name: format!("filter '{filter}'"),
                    reason: words(&e),
                })?;
        }
        let link = LinkType::from_number(capture.get_datalink().0 as u32);
        Ok(Self {
            name: name.to_owned(),
            capture: Some(capture),
            link,
            snap_length,
        })
    }

    /// What its frames begin with.
    pub(super) fn link(&self) -> LinkType {
        self.link
    }

    /// Its interface, for those who record.
    pub fn interface(&self) -> Interface {
        Interface {
            link: self.link,
            name: Some(self.name.clone()),
            point: None,
            snap_length: self.snap_length,
        }
    }

    /// See [`Source::waker`].
    pub(super) fn breaker(&mut self) -> Box<dyn Fn() + Send> {
        let handle = self.capture.as_mut().map(Capture::breakloop_handle);
        Box::new(move || {
            if let Some(handle) = &handle {
                handle.breakloop();
            }
        })
    }

    /// Gives frames until it is stopped, and then those that the kernel has captured by then; `idle`
    /// is called between handfuls of them.
    pub(super) fn each(
        &mut self,
        shared: &Shared,
        mut give: impl FnMut(Timestamp, u32, &[u8]),
        mut idle: impl FnMut() -> bool,
    ) -> Result<(), SourceError> {
        let Some(mut capture) = self.capture.take() else {
            return Ok(());
        };
        let (mut kernel, mut interface) = (Counter::default(), Counter::default());
        let mut count = |capture: &mut Capture<Active>| {
            if let Ok(s) = capture.stats() {
                shared.device_drops(kernel.more(s.dropped), interface.more(s.if_dropped));
            }
        };
        let mut some = |capture: &mut Capture<Active>| {
            capture.dispatch(Some(CALL_FRAMES), |packet| {
                let h = packet.header;
                give(time(h), h.len.max(h.caplen), packet.data);
            })
        };
        let mut asked: Option<Instant> = None;
        while !shared.stopped() {
            let done = some(&mut capture);
            if asked.is_none_or(|a| a.elapsed() > STATS_EVERY) {
                asked = Some(Instant::now());
                count(&mut capture);
            }
            if !idle() {
                return Ok(());
            }
            if let Err(e) = done
                && !shared.stopped()
            {
                return Err(refused(&self.name, &e));
            }
        }
        let stopped = Instant::now();
        let mut capture = capture.setnonblock().map_err(|e| refused(&self.name, &e))?;
        let mut silent = 0;
        while silent < SILENT && stopped.elapsed() < DRAIN {
            // What woke it up comes as an error.
            if some(&mut capture).is_ok_and(|n| n > 0) {
                silent = 0;
            } else {
                silent += 1;
                std::thread::sleep(Duration::from_millis(BLOCK_WAIT_MS as u64));
            }
        }
        count(&mut capture);
        idle();
        Ok(())
    }
}

/// Linux gives nanoseconds for every device; others may not, and libpcap's crate does not tell.
#[cfg(target_os = "linux")]
const PRECISION: Precision = Precision::Nano;
#[cfg(not(target_os = "linux"))]
const PRECISION: Precision = Precision::Micro;

#[allow(
    clippy::unnecessary_cast,
    reason = "the fields have 32 bits on other systems"
)]
fn time(h: &pcap::PacketHeader) -> Timestamp {
    let unit = match PRECISION {
        Precision::Nano => 1,
        Precision::Micro => 1000,
    };
    let (seconds, fraction) = (h.ts.tv_sec as i64, h.ts.tv_usec as i64);
    Timestamp::from_nanos(seconds * 1_000_000_000 + fraction * unit)
}

impl Source for LiveDevice {
    fn names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn kind(&self) -> &'static str {
        "live"
    }

    fn waker(&mut self) -> Option<Box<dyn Fn() + Send>> {
        Some(self.breaker())
    }

    fn run(&mut self, out: &mut Outlet, shared: &Shared) -> Result<Vec<FileSummary>, SourceError> {
        shared.set_interfaces(vec![self.interface()]);
        let link = self.link;
        let mut number = 0;
        let out = std::cell::RefCell::new(out);
        self.each(
            shared,
            |time, wire_len, data| {
                number += 1;
                let mut out = out.borrow_mut();
                out.frame(&Frame {
                    number,
                    time,
                    interface: 0,
                    link,
                    wire_len,
                    data,
                });
                out.flush_full();
            },
            || {
                let mut out = out.borrow_mut();
                out.flush();
                !out.is_closed()
            },
        )?;
        Ok(Vec::new())
    }
}

/// The devices that can be captured on, one line each.
///
/// # Errors
/// libpcap's.
pub fn list() -> Result<Vec<String>, SourceError> {
    let devices = Device::list().map_err(|e| refused("devices", &e))?;
    Ok(devices
        .iter()
        .map(|d| {
            let mut words = vec![];
            if d.flags.is_up() {
                words.push("up".to_owned());
            }
            if d.flags.is_running() {
                words.push("running".to_owned());
            }
            if d.flags.is_loopback() {
                words.push("loopback".to_owned());
            }
            words.extend(d.addresses.iter().map(|a| a.addr.to_string()));
            words.extend(d.desc.clone());
            format!("{:<16} {}", d.name, words.join(", "))
        })
        .collect())
}
