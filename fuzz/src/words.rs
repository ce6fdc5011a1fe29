//! What users write: rules, patterns, manifests.

use phasescope::stats::factors::{Manifest, Pattern};
use phasescope::stats::rules::Rule;

/// Rules of `--fail-on`, patterns of file names, hardware addresses.
pub fn rules(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = text.parse::<Rule>();
    if let Ok(mac) = text.parse::<phasescope::net::packet::Mac>() {
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
    let (pattern, name) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(pattern) = pattern.parse::<Pattern>()
        && let Some(levels) = pattern.levels(name)
    {
        assert!(levels.iter().all(|(_, v)| name.contains(v.as_str())));
    }
}

/// Manifests, which are CSV.
pub fn manifest(data: &[u8]) {
    if let Ok(m) = Manifest::read(data) {
        assert!(m.names().count() <= data.len());
        m.levels("a");
    }
}
