//! From a path, `-` or several files to [`Frame`]s in time order. Knows no protocol.
