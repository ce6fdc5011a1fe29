//! Frames from a DPMI measurement stream: a measurement point captures, and sends what it saw.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::device::{LiveDevice, Settings};
use super::source::{DRAIN, Outlet, Shared, Source, SourceError};
use crate::capture::dpmi::{Name, RecordHeader, StreamCounts, StreamDecoder};
use crate::capture::{FileSummary, Frame, Interface, LinkType};

/// UDP port where none is given, and EtherType.
const STREAM: u16 = 0x0810;
/// Bytes before the send header.
const ETHERNET_HEADER: usize = 14;
/// Senders whose sequence numbers are watched.
const MAX_STREAMS: usize = 1024;
/// Pairs of measurement point and interface; later ones count as the last.
const MAX_POINTS: usize = 4096;
/// The socket's buffer. Bytes; the kernel may give less.
const SOCKET_BYTES: usize = 16 << 20;
/// Longest datagram.
const MAX_DATAGRAM: usize = 65_535;
/// Frames go on to the analysis at least so often.
const FLUSH_EVERY: Duration = Duration::from_millis(20);

/// Where a stream comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Device, and group address.
    Ethernet(String, [u8; 6]),
    /// Group or own address, and port.
    Udp(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let wrong =
            || "eth1/01:00:00:00:00:01 for Ethernet, udp://239.0.0.1:2064 for UDP".to_owned();
        if let Some(place) = s.strip_prefix("udp://") {
            let has_port = place
                .rsplit_once(':')
                .is_some_and(|(_, p)| p.parse::<u16>().is_ok());
            return Ok(Address::Udp(if has_port {
                place.to_owned()
            } else {
                format!("{place}:{STREAM}")
            }));
        }
        let (device, group) = s.split_once('/').ok_or_else(wrong)?;
        let mut mac = [0; 6];
        let mut parts = group.split(':');
        for byte in &mut mac {
            let part = parts.next().ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if device.is_empty() || parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Address::Ethernet(device.to_owned(), mac))
    }
}

enum Transport {
    Ethernet(Box<LiveDevice>),
    Udp(UdpSocket),
}

/// Who sends: each has sequence numbers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Sender {
    Ethernet([u8; 6]),
    Udp(SocketAddr),
}

/// Decodes what comes.
#[derive(Default)]
struct Decoder {
    streams: HashMap<Sender, StreamDecoder>,
    points: HashMap<(Name, Name), u32>,
    interfaces: Vec<Interface>,
    number: u64,
}

impl Decoder {
    fn take(&mut self, sender: Sender, payload: &[u8], out: &mut Outlet, shared: &Shared) {
        let full = self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(&sender);
        let mut spare = StreamDecoder::default();
        let stream = if full {
            &mut spare
        } else {
            self.streams.entry(sender).or_default()
        };
        let known = self.interfaces.len();
        stream.push(payload, &mut |r| {
            self.number += 1;
            let interface = number(&mut self.points, &mut self.interfaces, &r.header);
            out.frame(&Frame {
                number: self.number,
                time: r.header.time(),
                interface,
                link: LinkType::Ethernet,
                wire_len: r.header.wire_len,
                data: r.data,
            });
        });
        if self.interfaces.len() > known {
            shared.set_interfaces(self.interfaces.clone());
        }
        out.flush_full();
    }

    fn tell(&self, shared: &Shared) {
        let mut sum = StreamCounts::default();
        for s in self.streams.values() {
            sum.add(s.counts());
        }
        shared.set_streams(sum);
    }
}

/// Number of the interface that captured a record.
fn number(
    points: &mut HashMap<(Name, Name), u32>,
    interfaces: &mut Vec<Interface>,
    header: &RecordHeader,
) -> u32 {
    let key = (header.point, header.nic);
    if let Some(n) = points.get(&key) {
        return *n;
    }
    if points.len() >= MAX_POINTS {
        return MAX_POINTS as u32 - 1;
    }
    let n = interfaces.len() as u32;
    points.insert(key, n);
    interfaces.push(Interface {
        link: LinkType::Ethernet,
        name: Some(format!("{}:{}", header.point, header.nic)),
        point: Some(header.point.to_string()),
        snap_length: 0,
    });
    n
}

/// A stream that is listened to.
pub struct DpmiStream {
    name: String,
    transport: Transport,
}

impl DpmiStream {
    /// Begins to listen.
    ///
    /// # Errors
    /// The system's.
    pub fn open(address: &Address) -> Result<Self, SourceError> {
        match address {
            Address::Ethernet(device, group) => {
                let group: Vec<String> = group.iter().map(|b| format!("{b:02x}")).collect();
                let group = group.join(":");
                let settings = Settings {
                    name: device.clone(),
                    filter: Some(format!("ether proto {STREAM:#06x} and ether dst {group}")),
                    ..Settings::default()
                };
                Ok(Self {
                    name: format!("dpmi {device}/{group}"),
                    transport: Transport::Ethernet(Box::new(LiveDevice::open(&settings)?)),
                })
            }
            Address::Udp(place) => {
                let failed = |e: std::io::Error| SourceError::Device {
                    name: format!("udp://{place}"),
                    reason: e.to_string(),
                };
                Ok(Self {
                    name: format!("dpmi udp://{place}"),
                    transport: Transport::Udp(listen(place).map_err(failed)?),
                })
            }
        }
    }
}

fn listen(place: &str) -> std::io::Result<UdpSocket> {
    let address = place
        .to_socket_addrs()?
        .next()
        .ok_or(ErrorKind::AddrNotAvailable)?;
    let socket = match address.ip() {
        IpAddr::V4(group) if group.is_multicast() => {
            // On the group's own address: other groups with this port stay out.
            let socket = UdpSocket::bind(address)?;
            socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?;
            socket
        }
        IpAddr::V6(group) if group.is_multicast() => {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, address.port()))?;
            socket.join_multicast_v6(&group, 0)?;
            socket
        }
        _ => UdpSocket::bind(address)?,
    };
    socket.set_read_timeout(Some(FLUSH_EVERY))?;
    // As much as may be had: not an error if it is less.
    let _ = setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BYTES);
    Ok(socket)
}

impl Source for DpmiStream {
    fn names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn kind(&self) -> &'static str {
        "dpmi"
    }

    fn waker(&mut self) -> Option<Box<dyn Fn() + Send>> {
        match &mut self.transport {
            Transport::Ethernet(device) => Some(device.breaker()),
            // It wakes by itself.
            Transport::Udp(_) => None,
        }
    }

    fn run(&mut self, out: &mut Outlet, shared: &Shared) -> Result<Vec<FileSummary>, SourceError> {
        let mut decoder = Decoder::default();
        match &mut self.transport {
            Transport::Ethernet(device) => {
                let both = std::cell::RefCell::new((decoder, out));
                device.each(
                    shared,
                    |_, _, data| {
                        let (decoder, out) = &mut *both.borrow_mut();
                        let sender = data.get(6..12).and_then(|m| m.try_into().ok());
                        if let (Some(mac), Some(payload)) = (sender, data.get(ETHERNET_HEADER..)) {
                            decoder.take(Sender::Ethernet(mac), payload, out, shared);
                        }
                    },
                    || {
                        let (decoder, out) = &mut *both.borrow_mut();
                        out.flush();
                        decoder.tell(shared);
                        !out.is_closed()
                    },
                )?;
            }
            Transport::Udp(socket) => {
                let mut buffer = vec![0; MAX_DATAGRAM];
                let mut flushed = Instant::now();
                let mut stopped: Option<Instant> = None;
                while !out.is_closed() && stopped.is_none_or(|s| s.elapsed() < DRAIN) {
                    if shared.stopped() {
                        stopped.get_or_insert_with(Instant::now);
                    }
                    match socket.recv_from(&mut buffer) {
                        Ok((n, from)) => {
                            let payload = buffer.get(..n).unwrap_or_default();
                            decoder.take(Sender::Udp(from), payload, out, shared);
                        }
                        Err(e) if is_timeout(e.kind()) => {
                            if stopped.is_some() {
                                break;
                            }
                        }
                        Err(e) => {
                            return Err(SourceError::Device {
                                name: self.name.clone(),
                                reason: e.to_string(),
                            });
                        }
                    }
                    if flushed.elapsed() > FLUSH_EVERY {
                        flushed = Instant::now();
                        out.flush();
                        decoder.tell(shared);
                    }
                }
                out.flush();
                decoder.tell(shared);
            }
        }
        Ok(Vec::new())
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
