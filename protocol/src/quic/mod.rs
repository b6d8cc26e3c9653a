//! The endpoints that both roles share: QUIC (RFC 9000) with TLS 1.3, both sides known by their ed25519 keys (RFC 7250).
//!
//! Read in this order: [`identity`] (who is at the other end), [`endpoint`] (listen, dial), [`connection`] (streams),
//! [`stream`] (frames on a stream), [`transfer`] (vectors in chunks), [`blob`] (files with a digest), [`link`] (what can go
//! wrong), [`tap`] (everything that is about to be encrypted, for whoever must look).
//!
//! ```
//! use leben_protocol::frame::{Answer, Hello, Request};
//! use leben_protocol::quic::{Dialer, Listener, public_key};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (coordinator, worker) = ([1; 32], [2; 32]); // seeds of the two keys
//! let listener = Listener::bind("127.0.0.1:0".parse()?, &coordinator)?;
//! let there = listener.local_addr()?;
//! let answering = tokio::spawn(async move {
//!     let link = listener.accept().await.ok_or("closed")??;
//!     let (mut writer, mut reader) = link.accept_bi().await?;
//!     let _hello: Option<Hello> = reader.recv().await?;
//!     writer.send(&Answer::Appended { index: 7, proof: vec![] }).await?;
//!     writer.finish_and_wait().await?;
//!     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(link.peer_key())
//! });
//! let link = Dialer::new(&worker)?.dial(there, public_key(&coordinator)?).await?;
//! let (mut writer, mut reader) = link.open_bi().await?;
//! writer.send(&Hello::Request(Request::Network)).await?;
//! assert_eq!(reader.recv::<Answer>().await?, Some(Answer::Appended { index: 7, proof: vec![] }));
//! assert_eq!(answering.await?.map_err(|e| e.to_string())?, public_key(&worker)?);
//! # Ok(()) }
//! ```

pub mod blob;
pub mod connection;
pub mod endpoint;
pub mod identity;
pub mod link;
mod reset;
pub mod stream;
pub mod tap;
pub mod transfer;
mod transport;

pub use blob::{Blob, BlobReader, BlobSender};
pub use connection::{Connection, LinkStats};
pub use endpoint::{Dialer, Listener, resolve};
pub use identity::public_key;
pub use link::LinkError;
pub use stream::{FrameReader, FrameWriter};
pub use tap::{Direction, Flow, Tap};
pub use transfer::{ChunkReader, Parcel, TransferError, receive_chunks, send_chunks};
