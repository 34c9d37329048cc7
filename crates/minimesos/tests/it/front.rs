//! The master's front: both encodings, TLS, and who may come in; and the client before it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use meson_mesos::client::Tls;
use meson_mesos::client::executor::{ExecutorClient, ExecutorEnvironment};
use meson_mesos::client::scheduler::{SchedulerClient, SchedulerOptions, SubscribeError};
use meson_mesos::encoding::Encoding;
use meson_mesos::recordio::Decoder;
use meson_mesos::scheduler::{Call, Envelope, Event, Roles, Subscribe};
use meson_mesos::secret::Credential;
use meson_mesos::types::FrameworkInfo;
use minimesos::master::{Credentials, MasterHandle, MasterOptions, ServerTls, start};
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use crate::support::{Agent, DEADLINE, master, master_options};

fn info() -> FrameworkInfo {
    FrameworkInfo {
        user: "root".into(),
        name: "test".into(),
        ..FrameworkInfo::default()
    }
}

fn options() -> SchedulerOptions {
    SchedulerOptions {
        give_up_after: Some(DEADLINE),
        ..SchedulerOptions::default()
    }
}

async fn master_with(change: impl FnOnce(&mut MasterOptions)) -> MasterHandle {
    let mut options = master_options();
    change(&mut options);
    start(options).await.unwrap()
}

/// SUBSCRIBE, and the first record of the answer.
async fn subscribe_raw(master: &MasterHandle, said: Encoding, accept: &str) -> (String, Event) {
    let body = said.encode(&Envelope {
        framework_id: None,
        body: Call::Subscribe(Subscribe {
            framework_info: info(),
            ..Subscribe::default()
        }),
    });
    let mut request = reqwest::Client::new()
        .post(format!("{}/api/v1/scheduler", master.url()))
        .header(CONTENT_TYPE, said.media_type())
        .body(body.unwrap());
    if !accept.is_empty() {
        request = request.header(ACCEPT, accept);
    }
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    let mut decoder = Decoder::default();
    loop {
        if let Some(record) = decoder.next_record().unwrap() {
            let encoding = Encoding::of_media_type(&kind).unwrap();
            return (kind, encoding.decode(&record).unwrap());
        }
        decoder.push(&answer.chunk().await.unwrap().unwrap());
    }
}

#[actix_web::test]
async fn item_01_what_a_stream_speaks_is_said_by_accept_and_not_by_the_call() {
    let master = master().await;
    let (json, protobuf) = ("application/json", "application/x-protobuf");
    for (said, accept, expected) in [
        (Encoding::Json, "", json),
        (Encoding::Json, "*/*", json),
        (Encoding::Json, json, json),
        (Encoding::Json, protobuf, protobuf),
        (Encoding::Protobuf, "", json),
        (Encoding::Protobuf, json, json),
        (Encoding::Protobuf, protobuf, protobuf),
    ] {
        let (kind, event) = subscribe_raw(&master, said, accept).await;
        assert_eq!(kind, expected, "{said:?}, Accept: {accept}");
        assert!(matches!(event, Event::Subscribed(_)), "{event:?}");
    }
    let post = |body: &'static [u8]| {
        reqwest::Client::new()
            .post(format!("{}/api/v1/scheduler", master.url()))
            .header(CONTENT_TYPE, protobuf)
            .body(body)
            .send()
    };
    let answer = post(&[0xff; 3]).await.unwrap();
    assert_eq!(answer.status(), 400);
    let words = "Failed to parse body into Call protobuf";
    assert_eq!(answer.text().await.unwrap(), words);
    let answer = reqwest::Client::new()
        .post(format!("{}/api/v1/scheduler", master.url()))
        .header(CONTENT_TYPE, json)
        .header(ACCEPT, "text/html")
        .body(r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n"}}}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 406);
    let words = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
    assert_eq!(answer.text().await.unwrap(), words);
    master.stop().await;
}

#[actix_web::test]
async fn item_01_a_client_speaks_either_encoding() {
    let master = master().await;
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let options = SchedulerOptions {
            encoding,
            ..options()
        };
        let client = SchedulerClient::new([master.url()], options).unwrap();
        let (session, mut events) = client.subscribe(info(), None).await.unwrap();
        let event = events.next().await.unwrap().unwrap();
        assert_eq!(event, Event::Heartbeat, "{encoding:?}");
        session.call(Call::Revive(Roles::default())).await.unwrap();
    }
    master.stop().await;
}

#[actix_web::test]
async fn item_06_a_framework_has_to_prove_its_principal_where_the_master_asks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials.json");
    let text = r#"{"credentials": [{"principal": "fw", "secret": "s3cret"}]}"#;
    std::fs::write(&file, text).unwrap();
    let credentials = Credentials::read(&file).unwrap();
    let master = master_with(|options| options.credentials = Some(credentials)).await;
    let subscribe = async |credential: Option<(&str, &str)>| {
        let options = SchedulerOptions {
            credential: credential.map(|(principal, secret)| Credential {
                principal: principal.to_owned(),
                secret: secret.into(),
            }),
            ..options()
        };
        let client = SchedulerClient::new([master.url()], options).unwrap();
        client.subscribe(info(), None).await
    };
    for (credential, expected) in [(None, false), (Some(("fw", "wrong")), true)] {
        match subscribe(credential).await.unwrap_err() {
            SubscribeError::Unauthorized {
                status,
                message,
                authenticated,
                ..
            } => {
                assert_eq!((status.as_u16(), authenticated), (401, expected));
                assert_eq!(message, "401 Unauthorized.");
            }
            other => panic!("{other}"),
        }
    }
    let (session, _events) = subscribe(Some(("fw", "s3cret"))).await.unwrap();
    // Calls prove it as well.
    session.call(Call::Revive(Roles::default())).await.unwrap();
    master.stop().await;
}

/// An authority, and certificates that it has signed.
struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        std::fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Self {
            issuer,
            folder: folder.to_owned(),
        }
    }

    /// Files of a certificate and its key.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.folder.join(format!("{name}.{end}"));
        std::fs::write(path("pem"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        (path("pem"), path("key"))
    }

    /// Its own certificate.
    fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A master that speaks TLS, and asks for certificates of this authority if there is one.
    async fn master(&self, client_authority: Option<PathBuf>) -> MasterHandle {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (certificate, key) = self.issue("127.0.0.1");
        let tls = ServerTls {
            certificate,
            key,
            client_authority,
        };
        master_with(|options| options.tls = Some(tls)).await
    }
}

#[actix_web::test]
async fn item_06_tls_with_an_authority_of_ones_own_and_certificates_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let ca = authority.file();
    let master = authority.master(Some(ca.clone())).await;
    assert!(master.url().starts_with("https://"));
    let (certificate, key) = authority.issue("framework");
    let read = |path: &Path| std::fs::read(path).unwrap();
    let identity = [read(&certificate), read(&key)].concat();
    let attempt = async |authority: Option<Vec<u8>>, identity: Option<Vec<u8>>, limit| {
        let options = SchedulerOptions {
            tls: Some(Tls {
                authority,
                identity,
            }),
            give_up_after: Some(limit),
            ..options()
        };
        let client = SchedulerClient::new([master.url()], options).unwrap();
        client.subscribe(info(), None).await
    };
    let soon = Duration::from_millis(10);
    let error = attempt(None, Some(identity.clone()), soon)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let error = attempt(Some(read(&ca)), None, soon).await.unwrap_err();
    assert!(
        matches!(error, SubscribeError::Unreachable { .. }),
        "{error}"
    );
    let (session, _events) = attempt(Some(read(&ca)), Some(identity), DEADLINE)
        .await
        .unwrap();
    session.call(Call::Revive(Roles::default())).await.unwrap();
    master.stop().await;
}

#[actix_web::test]
async fn an_executor_speaks_tls_where_its_agent_does_and_verifies_it_if_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    // Not an agent, but it speaks TLS, and says that it knows no executors.
    let master = authority.master(None).await;
    let addr = master.addr.to_string();
    let ca = authority.file().display().to_string();
    let elsewhere = tempfile::tempdir().unwrap();
    let other_ca = Authority::new(elsewhere.path()).file();
    let other_ca = other_ca.display().to_string();
    let attempt = async |verify: &str, ca: &str| {
        let environment = ExecutorEnvironment::from_variables(|name| {
            let value = match name {
                "MESOS_FRAMEWORK_ID" | "MESOS_EXECUTOR_ID" => "x",
                "MESOS_AGENT_ENDPOINT" => &addr,
                "MESOS_CHECKPOINT" | "LIBPROCESS_SSL_ENABLED" => "1",
                "MESOS_RECOVERY_TIMEOUT" => "1ms",
                "LIBPROCESS_SSL_VERIFY_SERVER_CERT" => verify,
                "LIBPROCESS_SSL_CA_FILE" => ca,
                _ => return None,
            };
            Some(value.to_owned())
        });
        let client = ExecutorClient::new(environment.unwrap(), 1).unwrap();
        let end = client.resubscribe(Vec::new(), Vec::new()).await;
        end.unwrap_err().to_string()
    };
    for (verify, ca) in [("0", &other_ca), ("1", &ca)] {
        let error = attempt(verify, ca).await;
        assert!(error.contains("404"), "{verify} {error}");
    }
    let error = attempt("1", &other_ca).await;
    assert!(error.contains("certificate"), "{error}");
    master.stop().await;
}

#[actix_web::test]
async fn an_agent_registers_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let ca = authority.file();
    let master = authority.master(None).await;
    let ca_text = ca.display().to_string();
    let more = [
        "--resources",
        "cpus:1;mem:64;disk:64",
        "--master-ca",
        &ca_text,
    ];
    let _agent = Agent::start(&master.url(), &folder.path().join("agent"), &more);
    let options = SchedulerOptions {
        tls: Some(Tls {
            authority: Some(std::fs::read(&ca).unwrap()),
            identity: None,
        }),
        ..options()
    };
    let client = SchedulerClient::new([master.url()], options).unwrap();
    let (_session, mut events) = client.subscribe(info(), None).await.unwrap();
    loop {
        let event = tokio::time::timeout(DEADLINE, events.next()).await;
        if let Event::Offers(offers) = event.unwrap().unwrap().unwrap() {
            assert_eq!(offers.offers.len(), 1);
            break;
        }
    }
    master.stop().await;
}
