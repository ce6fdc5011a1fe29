//! OpenStack's REST calls that a live migration consists of: which call a
//! request is, and the few fields of its JSON bodies that are kept.

mod calls;
mod fields;
pub mod redact;
mod redact_json;

pub(crate) use calls::is_kept;
pub use calls::{Call, Classified, ROUTES, Route, Service, classify};
pub use fields::{
    Action, Binding, Event, Fields, MAX_LISTED, Migration, RULES, Server, request_fields,
    response_fields,
};
