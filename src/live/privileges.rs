//! Root opens the device and nothing else.

use std::ffi::CString;

use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setgroups, setuid};

/// Who the program shall become, where it runs as root.
fn wanted(user: Option<&str>) -> Option<String> {
    let caller = || std::env::var("SUDO_UID").ok();
    let root = geteuid().is_root();
    root.then(|| user.map(str::to_owned).or_else(caller))?
}

/// Will [`give_up`] look a user up?
pub fn may_change(user: Option<&str>) -> bool {
    wanted(user).is_some()
}

/// Becomes `user` (a name or a number), or whoever called sudo, where the program runs as root.
/// Says who it is now; `None` where nothing changed.
///
/// # Errors
/// No such user, or the system refuses.
pub fn give_up(user: Option<&str>) -> Result<Option<String>, String> {
    if let (Some(u), false) = (user, geteuid().is_root()) {
        return Err(format!("only root can become '{u}'"));
    }
    let Some(wanted) = wanted(user) else {
        return Ok(None);
    };
    let found = match wanted.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(&wanted),
    };
    let found = found.map_err(|e| format!("user '{wanted}': {e}"))?;
    let (name, uid, gid) = match (found, wanted.parse()) {
        (Some(u), _) => (Some(u.name), u.uid, u.gid),
        // A number without a name, as in containers.
        (None, Ok(n)) => (None, Uid::from_raw(n), Gid::from_raw(n)),
        (None, Err(_)) => return Err(format!("no user '{wanted}'")),
    };
    if uid.is_root() {
        return Ok(None);
    }
    let become_it = || {
        match name.as_deref().map(CString::new) {
            Some(Ok(name)) => initgroups(&name, gid)?,
            _ => setgroups(&[gid])?,
        }
        setgid(gid)?;
        setuid(uid)
    };
    become_it().map_err(|e| format!("cannot become '{wanted}': {e}"))?;
    if setuid(Uid::from_raw(0)).is_ok() {
        return Err("the rights of root could be taken back".to_owned());
    }
    Ok(Some(name.unwrap_or(wanted)))
}
