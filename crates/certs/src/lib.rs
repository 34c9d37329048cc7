//! Who a node is, on paper.
//!
//! A cluster has one certificate authority of its own. Every coordinator holds a certificate of
//! it, and the certificate carries the coordinator's number and the cluster's name in one DNS
//! name, `node-<number>.<cluster>.meson`. Nothing ever resolves that name: it is what a peer
//! checks the other side against, wherever it was dialled.
//!
//! ```text
//!   DIR/ca.pem  ca.key          the authority; the key never leaves the machine it was made on
//!   DIR/node-1/ca.pem           whom node 1 trusts          ┐
//!             node.pem          who node 1 is               ├─ copied to node 1
//!             node.key          what proves it              ┘
//! ```
//!
//! Files: `name` the naming rule; `authority` makes and issues; `files` puts on disk without
//! ever leaving half a file; `identity` what a node loads and checks; `inspect` looks at what is
//! there, valid or not; `errors` what can be wrong, and what to do.
//!
//! Time is an argument everywhere: nothing here reads a clock.

mod authority;
mod errors;
mod files;
mod identity;
mod inspect;
mod name;

pub use authority::{AUTHORITY_VALIDITY, Authority, NodeFiles};
pub use errors::CertError;
pub use files::{AUTHORITY_CERTIFICATE, AUTHORITY_KEY, NODE_CERTIFICATE, NODE_KEY, node_folder};
pub use identity::Identity;
pub use inspect::{Paper, inspect};
pub use name::{PeerId, check_cluster, dns_name, peer_name};
