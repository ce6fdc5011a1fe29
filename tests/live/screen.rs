//! The screen, drawn to a buffer: at three sizes, in the middle of a migration and behind it.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use phasescope::capture::FileSummary;
use phasescope::dissect::event::{Kind, Qemu};
use phasescope::live::engine::{Engine, Notice};
use phasescope::live::monitor::{Monitor, Options};
use phasescope::live::source::{Outlet, Shared, Source, SourceError};
use phasescope::live::tui::{self, App, Theme, draw, export};
use phasescope::live::view::{Load, View};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};
use ratatui::style::Color;

use crate::{IDLE, folder, open, skipped};
use phasescope::report::Report;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (40, 12)];

/// What is known after so many frames; `None` is all of them, and the end.
fn view(file: &str, frames: Option<u64>) -> Arc<View> {
    let mut capture = open(file);
    let mut engine = Engine::new(vec!["trace".to_owned()], "replay");
    while let Some(frame) = capture.next_frame().unwrap() {
        engine.frame(&frame, &mut |_| {});
        if Some(frame.number) == frames {
            return Arc::new(engine.view(Load::default()));
        }
    }
    engine.close(&mut |_| {});
    let mut view = engine.view(Load::default());
    view.ended = Some(None);
    Arc::new(view)
}

fn app(view: &Arc<View>) -> App {
    let mut app = App::new(Theme::new(false));
    app.update(view);
    app
}

fn press(app: &mut App, keys: &str) {
    for c in keys.chars() {
        let code = match c {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '\t' => KeyCode::Tab,
            c => KeyCode::Char(c),
        };
        app.key(KeyEvent::from(code));
    }
}

fn draw_at(app: &mut App, (width, height): (u16, u16)) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    terminal
}

fn text(app: &mut App, size: (u16, u16)) -> String {
    draw_at(app, size).backend().to_string()
}

/// A screen at each of the sizes, as one snapshot.
fn sizes(name: &str, app: &mut App) {
    let all: Vec<String> = SIZES.iter().map(|s| text(app, *s)).collect();
    insta::assert_snapshot!(name, all.join("\n"));
}

#[test]
fn while_memory_flows() {
    let mut app = app(&view(IDLE, Some(5000)));
    sizes("running", &mut app);
    press(&mut app, "\n");
    sizes("running-detail", &mut app);
}

#[test]
fn while_the_guest_stands_still() {
    let mut capture = open("fixtures/kvm/kvm-loaded.pcap.zst");
    let mut engine = Engine::new(vec!["trace".to_owned()], "replay");
    let mut stopped = false;
    while let Some(frame) = capture.next_frame().unwrap() {
        engine.frame(&frame, &mut |notice| {
            stopped |= matches!(notice, Notice::Event(e)
                if matches!(e.kind, Kind::Qemu(Qemu::Stopped { .. })));
        });
        if stopped && frame.number % 16 == 0 {
            break;
        }
    }
    let mut app = app(&Arc::new(engine.view(Load::default())));
    sizes("stopped", &mut app);
    assert!(text(&mut app, (30, 8)).contains("down "));
}

#[test]
fn nothing_yet() {
    let mut app = app(&view(IDLE, Some(10)));
    sizes("nothing", &mut app);
    press(&mut app, "\n");
    assert!(text(&mut app, (80, 24)).contains("there is no migration yet"));
}

#[test]
fn finished() {
    let mut app = app(&view(IDLE, None));
    sizes("finished", &mut app);
    press(&mut app, "\n");
    sizes("detail", &mut app);
    press(&mut app, "G");
    insta::assert_snapshot!("detail-end", text(&mut app, (80, 24)));
    press(&mut app, "b");
    sizes("budget", &mut app);
    press(&mut app, "h");
    sizes("health", &mut app);
    press(&mut app, "?");
    sizes("help", &mut app);
}

#[test]
fn many() {
    let file = "fixtures/kvm/kvm-repeat.pcap.zst";
    let mut app = app(&view(file, None));
    sizes("many", &mut app);
    press(&mut app, "b%");
    sizes("many-budget", &mut app);
    press(&mut app, "\x1bsss");
    let sorted = text(&mut app, (80, 24));
    assert!(sorted.contains("by total"), "{sorted}");
    let all = app_rows(&sorted);
    press(&mut app, "r");
    let mut reversed = app_rows(&text(&mut app, (80, 24)));
    reversed.reverse();
    assert_eq!(all, reversed);
}

/// The rows of finished migrations.
fn app_rows(screen: &str) -> Vec<String> {
    let rows = screen.lines().filter(|l| l.contains("completed"));
    rows.map(|l| l.trim_matches('"').trim().to_owned())
        .collect()
}

#[test]
fn the_filter_hides() {
    let mut app = app(&view(IDLE, None));
    press(&mut app, "/nobody");
    assert!(text(&mut app, (80, 24)).contains("filter: nobody_"));
    press(&mut app, "\n");
    assert!(text(&mut app, (80, 24)).contains("finished (0 of 1)"));
    press(&mut app, "\x1b");
    assert!(text(&mut app, (80, 24)).contains("finished (1)"));
    press(&mut app, "/COMPL\n");
    assert!(text(&mut app, (80, 24)).contains("finished (1)"));
}

#[test]
fn a_pause_holds_the_screen() {
    let mut app = app(&view(IDLE, Some(5000)));
    press(&mut app, "p");
    let before = text(&mut app, (80, 24));
    assert!(before.contains("paused"));
    app.update(&view(IDLE, None));
    assert_eq!(before, text(&mut app, (80, 24)));
    press(&mut app, " ");
    app.update(&view(IDLE, None));
    assert!(text(&mut app, (80, 24)).contains("finished (1)"));
}

/// The migration that was looked at stays selected when it is over.
#[test]
fn the_selection_goes_along() {
    let mut app = app(&view(IDLE, Some(5000)));
    press(&mut app, "G\n");
    assert!(text(&mut app, (80, 24)).contains(": transfer"));
    app.update(&view(IDLE, None));
    assert!(text(&mut app, (80, 24)).contains(": completed"));
}

#[test]
fn every_size_can_be_drawn() {
    for frames in [Some(5000), None] {
        let view = view(IDLE, frames);
        for keys in ["", "\n", "b", "h", "?", "\n\x1b/x", "b%", "\n?"] {
            let mut app = app(&view);
            press(&mut app, keys);
            for width in (1..140).step_by(7) {
                for height in 1..45 {
                    draw_at(&mut app, (width, height));
                }
            }
        }
    }
}

#[test]
fn keys_quit_and_export() {
    let mut app = app(&view(IDLE, None));
    press(&mut app, "e");
    let (key, _) = app.take_export().unwrap();
    assert!(app.take_export().is_none());
    let folder = folder("export");
    for n in [1, 2] {
        let words = export(&app, key, &folder);
        assert!(words.starts_with("written: "), "{words}");
        let file =
            |ending| std::fs::read(folder.join(format!("phasescope-kvg1-{n}.{ending}"))).unwrap();
        let report: Report = serde_json::from_slice(&file("json")).unwrap();
        assert_eq!(report.migrations.len(), 1);
        let svg = String::from_utf8(file("svg")).unwrap();
        assert!(svg.contains("Timeline: kvg1, kvsrc to kvdst"));
        assert_eq!(&file("png")[1..4], b"PNG");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 6);
    assert!(export(&app, key, &folder.join("none")).starts_with("not written: "));
    assert!(!app.is_done());
    press(&mut app, "q");
    assert!(app.is_done());
}

/// NO_COLOR: emphasis only. With colours a phase is its colour.
#[test]
fn colours_are_a_choice() {
    let view = view(IDLE, None);
    let colours = |theme| {
        let mut app = App::new(theme);
        app.update(&view);
        press(&mut app, "b");
        let terminal = draw_at(&mut app, (80, 24));
        let cells = terminal.backend().buffer().content.iter();
        cells
            .filter(|c| (c.fg, c.bg) != (Color::Reset, Color::Reset))
            .count()
    };
    assert_eq!(colours(Theme::new(false)), 0);
    assert!(colours(Theme::new(true)) > 20);
}

/// Gives a frame or two, and dies.
struct Dying;

impl Source for Dying {
    fn names(&self) -> Vec<String> {
        vec!["dying".to_owned()]
    }

    fn kind(&self) -> &'static str {
        "live"
    }

    fn run(&mut self, _: &mut Outlet, _: &Shared) -> Result<Vec<FileSummary>, SourceError> {
        // The screen is drawn by then.
        std::thread::sleep(Duration::from_millis(500));
        panic!("as it should");
    }
}

#[test]
#[ignore = "needs a terminal; the_terminal_survives_a_panic gives it one"]
fn a_thread_dies() {
    let options = Options {
        view_every: Some(Duration::from_millis(50)),
        ..Options::default()
    };
    let monitor = Monitor::start(Box::new(Dying), options).unwrap();
    tui::run(&monitor, Theme::new(false), || false).unwrap();
    let words = monitor.finish(|_| {}).unwrap_err();
    assert!(words.contains("capture thread has died"), "{words}");
}

#[test]
fn the_terminal_survives_a_panic() {
    let folder = folder("panic");
    let place = |name: &str| folder.join(name).display().to_string();
    let line = format!(
        "stty -a > {}; '{}' --ignored --exact screen::a_thread_dies --nocapture; \
         echo code $?; stty -a > {}",
        place("before"),
        std::env::current_exe().unwrap().display(),
        place("after")
    );
    let done = Command::new("script")
        .args(["-qec", &line, &place("typescript")])
        .stdin(Stdio::null())
        .output();
    let Ok(out) = done else {
        skipped("a terminal to die on needs script (util-linux)");
        return;
    };
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("code 0"), "{said}");
    // The other screen was entered and left, and then the panic told why.
    let entered = said.find("\x1b[?1049h").unwrap();
    let left = said.rfind("\x1b[?1049l").unwrap();
    let told = said.find("as it should").unwrap();
    assert!(entered < left, "{said}");
    let first_left = said.find("\x1b[?1049l").unwrap();
    assert!(first_left < told, "{said}");
    let drawn = said[told..].contains("dying");
    assert!(!drawn, "nothing is drawn over it: {said}");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert!(read("before").contains(" icanon"), "{}", read("before"));
    assert_eq!(read("before"), read("after"));
}
