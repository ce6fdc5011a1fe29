//! The JSON description of the device state, sent after the element list (QEMU 2.3 and later).
//!
//! Source: QEMU `migration/savevm.c` (`qemu_savevm_state_vmdesc`), `migration/vmstate.c`.

use serde_json::Value;

/// Deepest nesting of structures that is followed.
const MAX_DEPTH: usize = 32;

/// One device, in the order of the stream's FULL sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `idstr` of its section.
    pub name: String,
    /// Payload length that the description implies, bytes; `None` where it cannot be told.
    pub payload: Option<u64>,
}

/// What the description says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmDescription {
    /// Target page size, bytes.
    pub page_size: Option<u64>,
    /// Devices with FULL sections.
    pub devices: Vec<Device>,
}

/// Reads the JSON; `None` where it is not a description.
pub fn parse(json: &[u8]) -> Option<VmDescription> {
    let root: Value = serde_json::from_slice(json).ok()?;
    let devices = root
        .get("devices")?
        .as_array()?
        .iter()
        .map(|d| Device {
            name: d
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            payload: length(d, MAX_DEPTH),
        })
        .collect();
    Some(VmDescription {
        page_size: root.get("page_size").and_then(Value::as_u64),
        devices,
    })
}

/// Fields (a struct's size includes all below it), then each subsection: 0x05, its name with a
/// length byte, a 32-bit version, its own payload.
fn length(device: &Value, depth: usize) -> Option<u64> {
    let depth = depth.checked_sub(1)?;
    let mut sum = 0u64;
    for field in items(device, "fields") {
        let size = field.get("size")?.as_u64()?;
        let times = match field.get("array_len") {
            Some(n) => n.as_u64()?.max(1),
            None => 1,
        };
        sum = sum.checked_add(size.checked_mul(times)?)?;
    }
    for sub in items(device, "subsections") {
        let name = sub.get("vmsd_name")?.as_str()?.len() as u64;
        sum = sum
            .checked_add(6 + name)?
            .checked_add(length(sub, depth)?)?;
    }
    if device.get("fields").is_none() {
        // Old-style devices have a top-level size alone.
        sum = sum.checked_add(device.get("size")?.as_u64()?)?;
    }
    Some(sum)
}

fn items<'a>(v: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    v.get(key).and_then(Value::as_array).into_iter().flatten()
}
