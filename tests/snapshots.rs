//! Whole reports, as they are printed.

mod support;

use phasescope::report::{Format, JSON_SCHEMA, document, render};
use support::{KVM, RECORDED, kvm, report_of};

/// The recordings that differ most from the others.
const DIFFERENT: [&str; 5] = [
    "kvm-refused-exists",
    "kvm-storage",
    "kvm-postcopy-recovered",
    "kvm-preempt",
    "kvm-ssh-tunnelled",
];

#[test]
fn text() {
    for name in KVM.into_iter().chain(DIFFERENT) {
        let text = render(&report_of(&kvm(name)), Format::Text { color: false });
        for line in text.lines() {
            assert!(line.chars().count() <= document::WIDTH, "{name}: {line}");
        }
        insta::assert_snapshot!(format!("{name}-text"), text);
    }
}

#[test]
fn markdown() {
    let text = render(&report_of(&kvm("kvm-loaded")), Format::Markdown);
    insta::assert_snapshot!("kvm-loaded-markdown", text);
}

#[test]
fn json_fits_the_schema() {
    let schema = serde_json::from_str(JSON_SCHEMA).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    for name in KVM.into_iter().chain(RECORDED) {
        let report = report_of(&kvm(name));
        let value = serde_json::to_value(&report).expect("serialises");
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|e| format!("{} at {}", e, e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
        // And back again.
        let again: phasescope::report::Report = serde_json::from_value(value).expect("reads");
        assert_eq!(again.to_json().ok(), report.to_json().ok());
    }
}

#[test]
fn json() {
    let report = report_of(&kvm("kvm-idle"));
    insta::assert_snapshot!("kvm-idle-json", report.to_json().expect("serialises"));
}
