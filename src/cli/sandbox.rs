//! What a command gives up before it reads what strangers wrote (Linux, Landlock:
//! `Documentation/userspace-api/landlock.rst` of the kernel).
//!
//! Best effort: an old kernel takes what it knows of, and where nothing can be given up the command
//! goes on as it is.

use std::path::{Path, PathBuf};

/// `off` keeps a command from giving anything up.
#[cfg(target_os = "linux")]
const SWITCH: &str = "PHASESCOPE_SANDBOX";

/// What a command goes on needing; everything else is given up.
#[derive(Debug, Default)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "nothing to tell"))]
pub(crate) struct Reach {
    files: Vec<PathBuf>,
    /// Files that are there are read, folders with all that they hold.
    system: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    devices: Vec<PathBuf>,
    ports: Vec<u16>,
}

/// What says how many processors and how much memory there are for this process; the standard
/// library, the C library and polars ask.
const MACHINE: [&str; 5] = [
    "/proc/meminfo",
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/proc/sys/vm/overcommit_memory",
    "/sys/fs/cgroup",
];

/// Where the C library finds names of hosts, services and users, and the libraries that it loads for
/// that (nsswitch.conf(5), resolver(3), ethers(5)).
#[cfg(feature = "live")]
const NAMES: [&str; 17] = [
    "/etc/ethers",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/networks",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
];

impl Reach {
    /// Reads these files.
    pub(crate) fn reads(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.files.extend(files);
        self
    }

    /// Writes this file, if there is one.
    pub(crate) fn writes(mut self, file: Option<&Path>) -> Self {
        let Some(file) = file.filter(|f| *f != Path::new("-")) else {
            return self;
        };
        let place = phasescope::whole::place(file);
        if place.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            self.devices.push(place);
            return self;
        }
        let folder = place.parent().unwrap_or(Path::new("")).to_owned();
        self.writes_into(Some(&folder))
    }

    /// Writes files into this folder, if there is one.
    pub(crate) fn writes_into(mut self, folder: Option<&Path>) -> Self {
        let here = |f: &Path| match f.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => f.to_owned(),
        };
        self.folders.extend(folder.map(here));
        self
    }

    /// Asks for the names of hosts, services or users.
    #[cfg(feature = "live")]
    pub(crate) fn looks_up_names(mut self, yes: bool) -> Self {
        let names = NAMES.iter().filter(|_| yes);
        self.system.extend(names.map(PathBuf::from));
        self
    }

    /// Reads what the kernel counts of the network's devices.
    #[cfg(feature = "live")]
    pub(crate) fn reads_device_counters<'a>(
        mut self,
        devices: impl IntoIterator<Item = &'a String>,
    ) -> Self {
        let folder = |d| Path::new("/sys/class/net").join(d).join("statistics");
        self.system.extend(devices.into_iter().map(folder));
        self
    }

    /// Draws on the terminal.
    #[cfg(feature = "live")]
    pub(crate) fn draws(mut self, yes: bool) -> Self {
        self.devices.extend(yes.then(|| "/dev/tty".into()));
        self
    }

    /// Answers at this TCP port, if there is one.
    #[cfg(feature = "live")]
    pub(crate) fn answers_at(mut self, port: Option<u16>) -> Self {
        self.ports.extend(port);
        self
    }

    /// Gives everything else up, in this thread and in those that it will start.
    pub(crate) fn enter(mut self) {
        self.system.extend(MACHINE.map(PathBuf::from));
        #[cfg(target_os = "linux")]
        if std::env::var_os(SWITCH).is_none_or(|v| v != "off") {
            // Without it, everything is as it was before there was Landlock.
            let _ = linux::confine(&self);
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::os::unix::fs::FileTypeExt;
    use std::path::Path;

    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd,
        RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
        Scope,
    };

    use super::Reach;

    /// What is given up: all that this version knows of (Linux 6.12).
    const VERSION: ABI = ABI::V6;

    pub(super) fn confine(reach: &Reach) -> Result<RestrictionStatus, RulesetError> {
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(VERSION))?
            .handle_access(AccessNet::from_all(VERSION))?
            .scope(Scope::from_all(VERSION))?
            .create()?;
        for file in &reach.files {
            // A folder is no capture; that it is one can be said only if it opens.
            let access = match file.is_dir() {
                true => AccessFs::ReadDir,
                false => AccessFs::ReadFile,
            };
            allow(&mut rules, file, access.into())?;
        }
        for place in &reach.system {
            allow(&mut rules, place, AccessFs::ReadFile.into())?;
        }
        // A file is made under another name, renamed, and removed where that fails.
        let write = AccessFs::WriteFile | AccessFs::Truncate;
        for folder in &reach.folders {
            let make = write | AccessFs::MakeReg | AccessFs::RemoveFile;
            allow(&mut rules, folder, make)?;
        }
        for device in &reach.devices {
            let access = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
            allow(&mut rules, device, access)?;
        }
        for port in &reach.ports {
            (&mut rules).add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
        }
        rules.restrict_self()
    }

    /// What is not there needs no rule.
    fn allow(
        rules: &mut RulesetCreated,
        path: &Path,
        access: BitFlags<AccessFs>,
    ) -> Result<(), RulesetError> {
        let Ok(place) = PathFd::new(path) else {
            return Ok(());
        };
        let added = rules.add_rule(PathBeneath::new(place, access));
        let kind = fs::metadata(path).map(|m| m.file_type());
        match added {
            // Pipes without a name, as of `<(zcat FILE)`, take no rule and need none.
            Err(_) if kind.is_ok_and(|k| k.is_fifo() || k.is_socket()) => Ok(()),
            added => added.map(|_| ()),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::{fs, process, thread};

    use landlock::{ABI, LandlockStatus};

    use super::*;

    /// Rules hold for a thread and its children, so that each test has one to lose. The work gets
    /// to know the version of Landlock.
    #[allow(clippy::print_stderr, reason = "a skipped test says so")]
    fn confined(reach: Reach, work: impl FnOnce(ABI) + Send + 'static) {
        let done = thread::spawn(move || {
            let status = linux::confine(&reach).expect("rules can be made");
            match status.landlock {
                LandlockStatus::Available { effective_abi, .. } => work(effective_abi),
                none => eprintln!("skipped: no Landlock here ({none:?})"),
            }
        });
        assert!(done.join().is_ok(), "a check of the confined thread failed");
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("sandbox-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("out")).unwrap();
        fs::create_dir_all(folder.join("other")).unwrap();
        for file in ["a", "b", "out/old", "other/old"] {
            fs::write(folder.join(file), file).unwrap();
        }
        folder
    }

    fn refused<T>(result: std::io::Result<T>) -> bool {
        result.is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn only_what_is_named_can_be_reached() {
        let folder = folder("files");
        let reach = Reach::default()
            .reads([folder.join("a"), folder.join("none")])
            .writes(Some(&folder.join("out/new")));
        let at = folder.clone();
        confined(reach, move |_| {
            assert_eq!(fs::read(at.join("a")).unwrap(), b"a");
            assert!(refused(fs::read(at.join("b"))));
            assert!(refused(fs::read_dir(&at)));
            assert!(refused(fs::write(at.join("a"), "x")));
            assert!(refused(fs::write(at.join("other/new"), "x")));
            assert!(refused(fs::remove_file(at.join("other/old"))));
            phasescope::whole::write(&at.join("out/new"), b"x").unwrap();
            phasescope::whole::write(&at.join("out/new"), b"y").unwrap();
            assert!(refused(fs::read(at.join("out/old"))));
            assert!(refused(process::Command::new("/bin/sh").status()));
        });
        assert_eq!(fs::read(folder.join("a")).unwrap(), b"a");
        assert_eq!(fs::read(folder.join("out/new")).unwrap(), b"y");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn nobody_is_called() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        confined(Reach::default(), move |version| {
            let called = TcpStream::connect(there);
            // Older ones know nothing of TCP.
            if version >= ABI::V4 {
                assert!(refused(called));
                assert!(refused(TcpListener::bind("127.0.0.1:0")));
            }
        });
    }

    #[cfg(feature = "live")]
    #[test]
    fn metrics_are_answered_where_they_were_asked_for() {
        for port in [0, free_port()] {
            let reach = Reach::default().answers_at(Some(port));
            confined(reach, move |_| {
                TcpListener::bind(("127.0.0.1", port)).unwrap();
            });
        }
    }

    #[cfg(feature = "live")]
    fn free_port() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    }
}
