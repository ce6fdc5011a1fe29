//! Files that are whole or not at all.

use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("whole-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn the_old_stays_until_the_new_is_whole() {
    let folder = folder("old");
    let path = folder.join("a");
    write(&path, b"old").unwrap();
    let mut file = WholeFile::create(&path).unwrap();
    file.write_all(b"half of").unwrap();
    file.flush().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    drop(file);
    assert_eq!(names(&folder), ["a"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    write(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(&folder), ["a"]);
    assert!(write(&folder, b"x").is_err());
    assert!(write(&folder.join("none/a"), b"x").is_err());
    fs::remove_dir_all(&folder).unwrap();
}

#[cfg(unix)]
#[test]
fn links_and_devices_stay_what_they_are() {
    let folder = folder("links");
    let link = folder.join("link");
    write(&folder.join("a"), b"old").unwrap();
    std::os::unix::fs::symlink("a", &link).unwrap();
    write(&link, b"new").unwrap();
    assert_eq!(fs::read(folder.join("a")).unwrap(), b"new");
    assert_eq!(names(&folder), ["a", "link"]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    // A link to a device, so that nothing is lost if this fails.
    let null = folder.join("null");
    std::os::unix::fs::symlink("/dev/null", &null).unwrap();
    write(&null, b"gone").unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    fs::remove_dir_all(&folder).unwrap();
}
