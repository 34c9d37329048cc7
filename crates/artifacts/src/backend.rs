//! The only file, with `upload.rs` and `fetch.rs`, that knows `object_store`.

use std::ops::Range;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};

use reqwest as _; // see Cargo.toml

use crate::config::StoreConfig;
use crate::error::Error;

/// How long to try again before a store that does not answer is reported.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// An object, as a listing shows it.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// Below the store's prefix, parts joined by `/`.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) modified: SystemTime,
}

/// A store and the prefix under which everything of ours lies.
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// For messages.
    url: String,
}

impl Backend {
    pub(crate) fn open(config: &StoreConfig) -> Result<Self, Error> {
        let problem = |problem: String| Error::Config {
            url: config.url.clone(),
            problem,
        };
        let (store, prefix): (Arc<dyn ObjectStore>, _) =
            if let Some(folder) = config.url.strip_prefix("file://") {
                if let Some(name) = config.options.keys().next() {
                    return Err(problem(format!(
                        "a folder has no option {name:?}; remove it"
                    )));
                }
                let folder = FsPath::new(folder);
                if !folder.is_absolute() {
                    return Err(problem(
                        "the folder must be absolute: file:///folder".into(),
                    ));
                }
                std::fs::create_dir_all(folder).map_err(Error::io("making the folder", folder))?;
                let local = LocalFileSystem::new_with_prefix(folder)
                    .map_err(|error| problem(error.to_string()))?
                    .with_fsync(true);
                (Arc::new(local), Path::default())
            } else if let Some(rest) = config.url.strip_prefix("s3://") {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(problem("it names no bucket: s3://bucket/prefix".into()));
                }
                let prefix = Path::parse(prefix).map_err(|error| problem(error.to_string()))?;
                (Arc::new(s3(bucket, config, &problem)?), prefix)
            } else {
                return Err(problem("it must start with file:// or s3://".into()));
            };
        Ok(Self {
            store,
            prefix,
            url: config.url.trim_end_matches('/').to_owned(),
        })
    }

    /// An object's place, for messages.
    pub(crate) fn place(&self, object: &str) -> String {
        format!("{}/{object}", self.url)
    }

    pub(crate) fn path(&self, object: &str) -> Path {
        let parts = object.split('/').map(Into::into);
        self.prefix.parts().chain(parts).collect()
    }

    /// For `map_err` on what the store does.
    pub(crate) fn failed(
        &self,
        action: &'static str,
        object: &str,
    ) -> impl FnOnce(object_store::Error) -> Error {
        let (object, store) = (object.to_owned(), self.url.clone());
        move |error| match error {
            object_store::Error::NotFound { .. } => Error::NotFound { object, store },
            source => Error::Store {
                action,
                object,
                store,
                source: Box::new(source),
            },
        }
    }

    pub(crate) async fn put(&self, object: &str, bytes: Bytes) -> Result<(), Error> {
        self.store
            .put(&self.path(object), PutPayload::from_bytes(bytes))
            .await
            .map_err(self.failed("writing", object))?;
        Ok(())
    }

    /// Writes the object unless there is one; returns whether it did.
    pub(crate) async fn create(&self, object: &str, bytes: Bytes) -> Result<bool, Error> {
        let options = PutOptions::from(PutMode::Create);
        let payload = PutPayload::from_bytes(bytes);
        match self
            .store
            .put_opts(&self.path(object), payload, options)
            .await
        {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.failed("writing", object)(error)),
        }
    }

    pub(crate) async fn get(&self, object: &str) -> Result<Bytes, Error> {
        let get = async { self.store.get(&self.path(object)).await?.bytes().await };
        get.await.map_err(self.failed("reading", object))
    }

    pub(crate) async fn get_range(&self, object: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.store
            .get_range(&self.path(object), range)
            .await
            .map_err(self.failed("reading", object))
    }

    /// The object's size, if there is one.
    pub(crate) async fn size(&self, object: &str) -> Result<Option<u64>, Error> {
        match self.store.head(&self.path(object)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("looking at", object)(error)),
        }
    }

    /// Deletes the object; it is fine if there is none.
    pub(crate) async fn delete(&self, object: &str) -> Result<(), Error> {
        match self.store.delete(&self.path(object)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("deleting", object)(error)),
        }
    }

    /// What lies under a folder, in no order. `after`: only what sorts after it.
    pub(crate) fn list(
        &self,
        folder: &str,
        after: Option<&str>,
    ) -> BoxStream<'static, Result<Object, Error>> {
        let path = self.path(folder);
        let listed = match after {
            Some(after) => self.store.list_with_offset(Some(&path), &self.path(after)),
            None => self.store.list(Some(&path)),
        };
        let prefix = self.prefix.clone();
        let (folder, store) = (folder.to_owned(), self.url.clone());
        listed
            .map_ok(move |meta| Object {
                path: meta
                    .location
                    .prefix_match(&prefix)
                    .map_or_else(String::new, |parts| {
                        parts
                            .map(|part| part.as_ref().to_owned())
                            .collect::<Vec<_>>()
                            .join("/")
                    }),
                bytes: meta.size,
                modified: meta.last_modified.into(),
            })
            // A folder that vanishes while it is listed had nothing in it.
            .try_filter(|object| std::future::ready(!object.path.is_empty()))
            .filter_map(move |listed| {
                std::future::ready(match listed {
                    Err(object_store::Error::NotFound { .. }) => None,
                    Err(error) => Some(Err(Error::Store {
                        action: "listing",
                        object: folder.clone(),
                        store: store.clone(),
                        source: Box::new(error),
                    })),
                    Ok(object) => Some(Ok(object)),
                })
            })
            .boxed()
    }
}

fn s3(
    bucket: &str,
    config: &StoreConfig,
    problem: &dyn Fn(String) -> Error,
) -> Result<object_store::aws::AmazonS3, Error> {
    // reqwest is built without a TLS provider of its own: it takes the process's.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing the race to another thread that sets one is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let mut builder = AmazonS3Builder::from_env().with_retry(RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 10,
        retry_timeout: RETRY_FOR,
    });
    for (name, value) in &config.options {
        let key: AmazonS3ConfigKey = name.parse().map_err(|_| {
            problem(format!(
                "S3 has no option {name:?}; use endpoint, region, access_key_id, \
                 secret_access_key, session_token, allow_http, …"
            ))
        })?;
        builder = builder.with_config(key, value);
    }
    builder
        .with_bucket_name(bucket)
        .build()
        .map_err(|error| problem(error.to_string()))
}
