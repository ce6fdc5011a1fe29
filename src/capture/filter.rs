//! Capture filters in tcpdump's language, compiled and run by libpcap.

use std::fmt;

use super::{CaptureError, LinkType};

/// `DLT_RAW` (pcap/dlt.h); OpenBSD's is another.
const DLT_RAW: i32 = if cfg!(target_os = "openbsd") { 14 } else { 12 };

/// A filter, compiled once for each link type that it meets.
pub(super) struct Filter {
    expression: String,
    programs: Vec<(LinkType, pcap::BpfProgram)>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter")
            .field("expression", &self.expression)
            .finish()
    }
}

impl Filter {
    /// Compiles for Ethernet, so that a mistake shows before anything is read.
    pub(super) fn new(expression: &str) -> Result<Self, CaptureError> {
        let mut filter = Self {
            expression: expression.to_owned(),
            programs: Vec::new(),
        };
        filter.compile(LinkType::Ethernet)?;
        Ok(filter)
    }

    pub(super) fn matches(&mut self, link: LinkType, data: &[u8]) -> Result<bool, CaptureError> {
        if let Some((_, program)) = self.programs.iter().find(|(l, _)| *l == link) {
            return Ok(program.filter(data));
        }
        self.compile(link)?;
        self.matches(link, data)
    }

    fn compile(&mut self, link: LinkType) -> Result<(), CaptureError> {
        let fail = |e: pcap::Error| CaptureError::Filter {
            expression: self.expression.clone(),
            reason: e.to_string(),
        };
        // libpcap's own number here is not that of files.
        let number = match link {
            LinkType::Raw => DLT_RAW,
            link => i32::from(link.number()),
        };
        let program = pcap::Capture::dead(pcap::Linktype(number))
            .map_err(fail)?
            .compile(&self.expression, true)
            .map_err(fail)?;
        self.programs.push((link, program));
        Ok(())
    }
}
