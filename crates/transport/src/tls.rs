//! TLS and QUIC settings, from an identity.

use std::sync::Arc;

use meson_certs::{Identity, PeerId, peer_name};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;

use crate::errors::MeshError;
use crate::options::{MeshLimits, MeshTiming};
use crate::wire::ALPN;

/// What a node dials and serves with; made anew for a new certificate.
pub(crate) struct Settings {
    pub(crate) client: ClientConfig,
    pub(crate) server: ServerConfig,
}

pub(crate) fn settings(
    identity: &Identity,
    wall_clock: &Arc<dyn TimeProvider>,
    limits: &MeshLimits,
    timing: &MeshTiming,
) -> Result<Settings, MeshError> {
    let failed = |error: &dyn std::fmt::Display| MeshError::Tls {
        node: identity.id(),
        reason: error.to_string(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = identity.chain().to_vec();

    // No session is ever resumed: every connection shows its certificate, so that one that has
    // expired or was replaced is not used under an old ticket.
    let mut client =
        rustls::ClientConfig::builder_with_details(provider.clone(), wall_clock.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| failed(&error))?
            .with_root_certificates(identity.roots().clone())
            .with_client_auth_cert(chain.clone(), identity.key().clone_key())
            .map_err(|error| failed(&error))?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = Resumption::disabled();

    let verifier =
        WebPkiClientVerifier::builder_with_provider(identity.roots().clone(), provider.clone())
            .build()
            .map_err(|error| failed(&error))?;
    let mut server = rustls::ServerConfig::builder_with_details(provider, wall_clock.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| failed(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, identity.key().clone_key())
        .map_err(|error| failed(&error))?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;

    let transport = |dialling| transport(limits, timing, dialling).map_err(|error| failed(&error));
    let client = QuicClientConfig::try_from(client).map_err(|error| failed(&error))?;
    let mut client = ClientConfig::new(Arc::new(client));
    client.transport_config(Arc::new(transport(true)?));
    let server = QuicServerConfig::try_from(server).map_err(|error| failed(&error))?;
    let mut server = ServerConfig::with_crypto(Arc::new(server));
    server
        .transport_config(Arc::new(transport(false)?))
        .max_incoming(limits.handshakes)
        // Members have fixed addresses.
        .migration(false);
    Ok(Settings { client, server })
}

fn transport(
    limits: &MeshLimits,
    timing: &MeshTiming,
    dialling: bool,
) -> Result<TransportConfig, quinn::VarIntBoundsExceeded> {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::try_from(timing.idle_timeout)?))
        // One side's is enough: the other side answers.
        .keep_alive_interval(dialling.then_some(timing.keep_alive))
        .initial_rtt(timing.initial_rtt)
        .stream_receive_window(VarInt::from_u32(limits.stream_window_bytes))
        .receive_window(VarInt::from_u32(limits.connection_window_bytes))
        .send_window(limits.connection_window_bytes.into())
        // Only the greeting, until it was heard. The dialling side serves no streams at all.
        .max_concurrent_bidi_streams(VarInt::from_u32(u32::from(!dialling)))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    Ok(config)
}

/// Settings of the socket. The key of reset tokens outlives the process: a node that was killed
/// and started again answers packets for the connections of its former life with a reset, and its
/// peers need not wait for their timeout (RFC 9000, 10.3.2).
pub(crate) fn endpoint(identity: &Identity, seed: [u8; 32]) -> EndpointConfig {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, identity.key().secret_der());
    let derive = |label: &[u8]| hmac::sign(&secret, label);
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, derive(b"meson reset tokens").as_ref());
    let mut cid_key = [0; 8];
    cid_key.copy_from_slice(&derive(b"meson connection ids").as_ref()[..8]);
    let cid_key = u64::from_be_bytes(cid_key);
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config
        .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)))
        .rng_seed(Some(seed));
    config
}

/// Who is at the other end, by the certificate that TLS has checked.
pub(crate) fn peer_of(connection: &Connection) -> Result<(PeerId, String), String> {
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or("it showed no certificate")?;
    let leaf = chain.first().ok_or("it showed no certificate")?;
    peer_name(leaf).map_err(|error| error.to_string())
}
