//! What to send, from a TOML file and flags.
//!
//! [`Options`] is what the user said: a file is read into it ([`Options::read_toml`]), then flags
//! ([`Options::read_flags`]), by the tables of settings, the library's and the program's own. [`Config`] is
//! what that comes to: every default filled in, every conflict refused with the names of its keys.

mod array;
mod constant;
mod error;
mod file;
pub mod flags;
mod heap;
mod item;
mod listen_address;
mod options;
mod pack;
mod program;
mod repeat;
mod resolved;
mod row;
mod source;
#[cfg(test)]
mod tests;

pub use array::{ArrayType, ElementType};
pub use constant::ConstantItem;
pub use doorbell::settings::{InvalidValue, Key, Settings, SettingsError, Size, keys};
pub use error::{ConfigError, Line, with_flags};
pub use heap::HeapContent;
pub use item::{Item, ItemSpec};
pub use listen_address::ListenAddress;
pub use options::Options;
pub use pack::{PackConfig, PackRange};
pub use program::{HEAP_SIZE, ITEMS, Program, SHAPE};
pub use repeat::Repeat;
pub use resolved::Config;
pub use row::{Row, SECTIONS, rows};
pub use source::SourceKind;
