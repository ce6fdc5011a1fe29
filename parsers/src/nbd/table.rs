//! Numbers of the NBD protocol.
//!
//! Source: `doc/proto.md`, sections "Newstyle negotiation", "Option types", "Request types",
//! "Reply types", "Error values".

/// First eight bytes of a server, old or new.
pub(crate) const NBDMAGIC: [u8; 8] = *b"NBDMAGIC";
/// Then, new style; also before each option of the client.
pub(crate) const IHAVEOPT: [u8; 8] = *b"IHAVEOPT";
/// Then, old style (`NBD_CLIENT_MAGIC`).
pub(crate) const OLDSTYLE_MAGIC: [u8; 8] = 0x0000_4202_8186_1253_u64.to_be_bytes();
/// Before each reply to an option (`NBD_REP_MAGIC`).
pub(crate) const OPTION_REPLY_MAGIC: [u8; 8] = 0x0003_e889_0455_65a9_u64.to_be_bytes();

/// `NBD_REQUEST_MAGIC`.
pub(crate) const REQUEST_MAGIC: u32 = 0x2560_9513;
/// `NBD_EXTENDED_REQUEST_MAGIC`.
pub(crate) const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
/// `NBD_SIMPLE_REPLY_MAGIC`.
pub(crate) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// `NBD_STRUCTURED_REPLY_MAGIC`.
pub(crate) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
/// `NBD_EXTENDED_REPLY_MAGIC`.
pub(crate) const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// Options, by number (`NBD_OPT_*`).
const OPTIONS: [(u32, &str); 11] = [
    (1, "EXPORT_NAME"),
    (2, "ABORT"),
    (3, "LIST"),
    (4, "PEEK_EXPORT"),
    (5, "STARTTLS"),
    (6, "INFO"),
    (7, "GO"),
    (8, "STRUCTURED_REPLY"),
    (9, "LIST_META_CONTEXT"),
    (10, "SET_META_CONTEXT"),
    (11, "EXTENDED_HEADERS"),
];

/// `NBD_OPT_EXPORT_NAME`: the server answers without a reply's head.
pub const OPT_EXPORT_NAME: u32 = 1;
/// `NBD_OPT_ABORT`.
pub const OPT_ABORT: u32 = 2;
/// `NBD_OPT_STARTTLS`.
pub const OPT_STARTTLS: u32 = 5;
/// `NBD_OPT_INFO`.
pub const OPT_INFO: u32 = 6;
/// `NBD_OPT_GO`.
pub const OPT_GO: u32 = 7;
/// `NBD_OPT_LIST_META_CONTEXT`.
pub const OPT_LIST_META_CONTEXT: u32 = 9;
/// `NBD_OPT_SET_META_CONTEXT`.
pub const OPT_SET_META_CONTEXT: u32 = 10;

/// `NBD_REP_ACK`, type of the reply that accepts an option.
pub(crate) const REP_ACK: u32 = 1;

/// Name of an option; empty where unknown.
pub(crate) fn option_name(number: u32) -> &'static str {
    OPTIONS
        .iter()
        .find(|(n, _)| *n == number)
        .map_or("", |(_, name)| name)
}

/// Commands (`NBD_CMD_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// 0.
    Read,
    /// 1; its data follows.
    Write,
    /// 2; has no reply.
    Disc,
    /// 3.
    Flush,
    /// 4.
    Trim,
    /// 5.
    Cache,
    /// 6; no data.
    WriteZeroes,
    /// 7.
    BlockStatus,
}

impl Command {
    pub(crate) fn of(number: u16) -> Option<Self> {
        Some(match number {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Disc,
            3 => Self::Flush,
            4 => Self::Trim,
            5 => Self::Cache,
            6 => Self::WriteZeroes,
            7 => Self::BlockStatus,
            _ => return None,
        })
    }
}

/// Flags of a request that exist: FUA to PAYLOAD_LEN.
pub(crate) const COMMAND_FLAGS: u16 = 0x3f;
/// `NBD_CMD_FLAG_PAYLOAD_LEN`: the length of an extended request is that of its data.
pub(crate) const COMMAND_FLAG_PAYLOAD_LEN: u16 = 0x20;

/// `NBD_REPLY_FLAG_DONE`: last chunk of a reply.
pub(crate) const REPLY_FLAG_DONE: u16 = 1;
/// Chunk types from here on report an error.
pub(crate) const REPLY_TYPE_ERRORS: u16 = 0x8000;
/// Chunk types: NONE, OFFSET_DATA, OFFSET_HOLE, BLOCK_STATUS, BLOCK_STATUS_EXT.
pub(crate) const REPLY_TYPES: [u16; 5] = [0, 1, 2, 5, 6];

/// Values of the error field, those of Linux.
pub(crate) const ERRORS: [u32; 9] = [0, 1, 5, 12, 22, 28, 75, 95, 108];
