//! Looks for libpcap before anything is compiled: without it, the build would fail at its very end,
//! in the linker, in words that name no remedy.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// What the build says where libpcap is missing.
const MISSING: &str = "\
libpcap is missing: install its headers (Debian libpcap-dev, Fedora libpcap-devel, Alpine libpcap-dev),
or build without live capture and capture filters: cargo build --no-default-features";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBPCAP_LIBDIR");
    let wanted = env::var_os("CARGO_FEATURE_LIVE").is_some();
    // For another system than this one, only its own linker can tell.
    let native = env::var_os("HOST") == env::var_os("TARGET");
    if wanted && native && links_with_libpcap() == Some(false) {
        #[allow(clippy::print_stderr, reason = "cargo shows it where the build fails")]
        {
            eprintln!("{MISSING}");
        }
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Whether the linker that rustc calls finds libpcap; `None` where it cannot be asked.
fn links_with_libpcap() -> Option<bool> {
    let folder = env::var_os("OUT_DIR")?;
    let folder = Path::new(&folder);
    let source = folder.join("libpcap.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").ok()?;
    let linked = |library: &[String]| {
        let mut cc = Command::new("cc");
        cc.arg(&source)
            .arg("-o")
            .arg(folder.join("libpcap"))
            .args(library);
        cc.stdout(Stdio::null()).stderr(Stdio::null());
        cc.status().is_ok_and(|s| s.success())
    };
    // Where nothing can be linked, libpcap is not to blame.
    if !linked(&[]) {
        return None;
    }
    let place = env::var("LIBPCAP_LIBDIR").map(|d| format!("-L{d}"));
    let library: Vec<String> = place.into_iter().chain(["-lpcap".to_owned()]).collect();
    Some(linked(&library))
}
