//! Only some measurement points or capture interfaces.

use super::Interface;

/// Which ones, by name.
#[derive(Debug, Default)]
pub(super) struct Selection {
    points: Vec<String>,
    interfaces: Vec<String>,
    /// Answers by interface number.
    known: Vec<bool>,
}

impl Selection {
    pub(super) fn new(points: &[String], interfaces: &[String]) -> Self {
        Self {
            points: points.to_vec(),
            interfaces: interfaces.to_vec(),
            known: Vec::new(),
        }
    }

    /// Does it take this interface in? `all` are those met so far.
    pub(super) fn takes(&mut self, number: u32, all: &[(usize, u32, Interface)]) -> bool {
        for (.., interface) in all.iter().skip(self.known.len()) {
            let takes = self.takes_new(interface);
            self.known.push(takes);
        }
        self.known.get(number as usize).copied().unwrap_or(false)
    }

    fn takes_new(&self, interface: &Interface) -> bool {
        let point = self.points.is_empty() || self.points.iter().any(|p| at_point(interface, p));
        let named =
            self.interfaces.is_empty() || self.interfaces.iter().any(|n| is_called(interface, n));
        point && named
    }

    /// The names given that no interface met so far has.
    pub(super) fn unmet<'s>(
        &'s self,
        all: &'s [(usize, u32, Interface)],
    ) -> impl Iterator<Item = &'s str> {
        let points = self
            .points
            .iter()
            .filter(|p| !all.iter().any(|(.., i)| at_point(i, p)));
        let interfaces = self
            .interfaces
            .iter()
            .filter(|n| !all.iter().any(|(.., i)| is_called(i, n)));
        points.chain(interfaces).map(String::as_str)
    }
}

fn at_point(interface: &Interface, point: &str) -> bool {
    interface.point.as_deref() == Some(point)
}

/// By its own name, or with its measurement point's in front.
fn is_called(interface: &Interface, name: &str) -> bool {
    interface.local_name() == Some(name) || interface.name.as_deref() == Some(name)
}
