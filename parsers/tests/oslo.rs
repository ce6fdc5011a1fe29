//! Envelopes of oslo.messaging.
#![allow(missing_docs, reason = "a test")]

mod cloud;

use cloud::*;
use phasescope_parsers::oslo::*;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn a_call_with_objects() {
    let found = decode(&envelope(&pre_live_migration())).unwrap();
    assert_eq!(found.generation, Generation::V2);
    assert_eq!(found.kind, Kind::Call);
    assert_eq!(found.method.as_deref(), Some("pre_live_migration"));
    assert_eq!(found.instance_uuid.as_deref(), Some(INSTANCE));
    assert_eq!(found.version.as_deref(), Some("6.0"));
    assert_eq!(found.block_migration, Some(false));
    let migration = found.migration.clone().unwrap();
    assert_eq!(migration.id, Some(4));
    assert_eq!(migration.status.as_deref(), Some("preparing"));
    let text = format!("{found:?}");
    assert!(!text.contains(SECRET) && !text.contains(PASSWORD));
}

#[test]
fn the_form_without_an_envelope() {
    let found = decode(pre_live_migration().as_bytes()).unwrap();
    assert_eq!(found.generation, Generation::V1);
    assert_eq!(found.instance_uuid.as_deref(), Some(INSTANCE));
}

#[test]
fn a_dictionary_instead_of_an_object() {
    let inner = json!({"method": "post_live_migration_at_destination",
        "args": {"instance": {"uuid": INSTANCE, "host": "a"}, "block_migration": false}});
    let found = decode(&envelope(&inner.to_string())).unwrap();
    assert_eq!(found.kind, Kind::Cast);
    assert_eq!(found.instance_uuid.as_deref(), Some(INSTANCE));
}

#[test]
fn replies() {
    let reply = |value: serde_json::Value| decode(&envelope(&value.to_string())).unwrap();
    let juno = reply(json!({"result": {"a": 1}, "failure": null, "_msg_id": "m"}));
    assert_eq!(
        (juno.kind, juno.ending, juno.result),
        (Kind::Reply, false, true)
    );
    let null = reply(json!({"result": null, "failure": null, "_msg_id": "m"}));
    assert_eq!((null.kind, null.ending), (Kind::Reply, false));
    let end = reply(json!({"result": null, "failure": null, "ending": true, "_msg_id": "m"}));
    assert_eq!((end.kind, end.ending), (Kind::Reply, true));
    let alive = reply(json!({"result": null, "failure": null, "ending": false, "_msg_id": "m"}));
    assert_eq!(alive.kind, Kind::KeepAlive);
    let failure = json!({"class": "MigrationPreCheckError", "message": PASSWORD}).to_string();
    let failed = reply(json!({"result": null, "failure": failure, "ending": true}));
    assert_eq!(failed.failure.as_deref(), Some("MigrationPreCheckError"));
    assert!(!format!("{failed:?}").contains(PASSWORD));
}

#[test]
fn state_changes_at_the_conductor() {
    let inner = json!({"method": "object_action", "_msg_id": "m", "args": {
        "objmethod": "save", "args": [], "kwargs": {},
        "objinst": {"nova_object.name": "Migration", "nova_object.data":
            {"status": "queued", "instance_uuid": INSTANCE, "id": 9}}}});
    let found = decode(&envelope(&inner.to_string())).unwrap();
    assert_eq!(found.object.unwrap().method.as_deref(), Some("save"));
    assert_eq!(found.migration.unwrap().status.as_deref(), Some("queued"));
    assert_eq!(found.instance_uuid.as_deref(), Some(INSTANCE));
}

#[test]
fn external_events() {
    let inner = json!({"method": "external_instance_event", "args": {
        "instances": [{"nova_object.name": "Instance", "nova_object.data": {"uuid": INSTANCE}}],
        "events": [{"nova_object.data": {"name": "network-vif-plugged", "tag": PORT,
            "status": "completed", "instance_uuid": INSTANCE}},
            {"nova_object.data": {"name": PASSWORD}}]}});
    let found = decode(&envelope(&inner.to_string())).unwrap();
    assert_eq!(found.instance_uuid.as_deref(), Some(INSTANCE));
    assert_eq!(found.events.len(), 1);
    assert_eq!(found.events[0].tag.as_deref(), Some(PORT));
}

#[test]
fn notifications() {
    let inner = json!({"event_type": "compute.instance.live_migration._post.end",
        "publisher_id": "compute.host1", "payload": {"instance_id": INSTANCE}, "priority": "INFO"});
    let found = decode(&envelope(&inner.to_string())).unwrap();
    assert_eq!(found.kind, Kind::Notification);
    assert_eq!(found.instance_uuid.as_deref(), Some(INSTANCE));
}

#[test]
fn cut_at_every_byte() {
    // In the order of Python 3: the method first.
    let inner = format!(
        r#"{{"method": "pre_live_migration", "args": {{"instance": {{"uuid": "{INSTANCE}"}}, "x": "{PASSWORD}"}}, "_msg_id": "m1", "_context_auth_token": "{SECRET}"}}"#
    );
    let body = envelope(&inner);
    let whole = decode(&body).unwrap();
    let mut methods = 0;
    for cut in 0..body.len() {
        if let Some(found) = decode(&body[..cut]) {
            assert!(found.truncated);
            assert_eq!(found.method, whole.method);
            assert!(found.msg_id.is_none() || found.msg_id == whole.msg_id);
            assert!(!format!("{found:?}").contains(PASSWORD));
            methods += 1;
        }
    }
    assert!(methods > 150);
}

#[test]
fn other_bodies() {
    for body in [
        &b""[..],
        b"{}",
        b"[1]",
        b"\"x\"",
        b"\x80\x02}q",
        b"{\"a\":",
        b"nul",
    ] {
        assert_eq!(decode(body), None);
    }
}

proptest! {
    #[test]
    fn random_changes(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10),
                      cut in any::<prop::sample::Index>()) {
        let body = changed(envelope(&pre_live_migration()), changes, cut);
        let _ = decode(&body);
    }
}
