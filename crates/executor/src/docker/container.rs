//! What to tell the engine about a container.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{ContainerCreateBody, DeviceRequest, HostConfig, ImageInspect, PortBinding};
use meson_core::resources::Resources;
use meson_core::run::{LaunchKind, LaunchSpec};

use crate::docker::label;
use crate::failure::TaskFailure;
use crate::layout::{CONTAINER_ROOT, Layout};
use crate::settings::Settings;
use crate::text::{Local, Quoting, render};

/// A container to be.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its name, unique on the engine.
    pub name: String,
    /// The image.
    pub image: String,
    args: Vec<String>,
    entrypoint: Option<Vec<String>>,
    env: BTreeMap<String, String>,
    binds: Vec<String>,
    labels: HashMap<String, String>,
    resources: Resources,
    ports: Vec<u16>,
}

impl Container {
    /// From the attempt's description; `env` is the whole environment as seen inside.
    pub fn of_step(
        spec: &LaunchSpec,
        env: BTreeMap<String, String>,
        local: &Local,
        host: &Layout,
        settings: &Settings,
    ) -> Result<Self, TaskFailure> {
        let LaunchKind::Docker {
            image,
            args,
            entrypoint,
            mounts,
        } = &spec.kind
        else {
            return Err(TaskFailure::platform(
                "a step of another kind came to the Docker runner",
            ));
        };
        let inside = host.in_container();
        let words = |texts: &[_]| {
            texts
                .iter()
                .map(|t| render(t, Quoting::Plain, local, &inside))
                .collect::<Result<Vec<_>, _>>()
        };
        let mut binds = vec![format!("{}:{CONTAINER_ROOT}", host.root().display())];
        for mount in mounts {
            binds.push(bind(&render(mount, Quoting::Plain, local, host)?, host)?);
        }
        let mut labels = crate::docker::labels(settings);
        labels.extend(
            [
                (label::RUN, spec.task.run.to_string()),
                (label::STEP, spec.task.step.clone()),
                (label::ATTEMPT, spec.task.attempt.0.to_string()),
                (label::TASK, spec.task.to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        Ok(Self {
            name: format!("meson-{}", spec.task),
            image: image.clone(),
            args: words(args)?,
            entrypoint: entrypoint.as_deref().map(words).transpose()?,
            env,
            binds,
            labels,
            resources: spec.resources,
            ports: spec.ports.clone(),
        })
    }

    /// The body of the engine's request.
    pub(super) fn body(&self, image: &ImageInspect) -> ContainerCreateBody {
        let config = image.config.as_ref();
        let own_directory = config
            .and_then(|c| c.working_dir.as_ref())
            .is_some_and(|d| !d.is_empty() && d != "/");
        let gpus = (self.resources.gpus > 0).then(|| {
            vec![DeviceRequest {
                count: Some(i64::from(self.resources.gpus)),
                capabilities: Some(vec![vec!["gpu".to_owned()]]),
                ..Default::default()
            }]
        });
        // The same number inside and outside: it is what the process is told, and the others of its gang.
        let ports = || self.ports.iter().map(|port| (*port, format!("{port}/tcp")));
        let published = |(port, name): (u16, String)| {
            let binding = PortBinding {
                host_port: Some(port.to_string()),
                ..Default::default()
            };
            (name, Some(vec![binding]))
        };
        let any_ports = !self.ports.is_empty();
        ContainerCreateBody {
            exposed_ports: any_ports.then(|| ports().map(|(_, name)| name).collect()),
            image: Some(self.image.clone()),
            cmd: (!self.args.is_empty()).then(|| self.args.clone()),
            entrypoint: self.entrypoint.clone(),
            env: Some(
                self.env
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
            ),
            working_dir: (!own_directory).then(|| format!("{CONTAINER_ROOT}/work")),
            user: owner(),
            labels: Some(self.labels.clone()),
            host_config: Some(HostConfig {
                binds: Some(self.binds.clone()),
                memory: limit(self.resources.mem.0),
                // Swap on top would let a step use more than it asked for.
                memory_swap: limit(self.resources.mem.0),
                nano_cpus: limit(self.resources.cpus.0.saturating_mul(1_000_000)),
                device_requests: gpus,
                port_bindings: any_ports.then(|| ports().map(published).collect()),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

/// The engine takes 0 for no limit, and refuses less than 6 MB of memory by itself.
fn limit(amount: u64) -> Option<i64> {
    i64::try_from(amount).ok().filter(|amount| *amount > 0)
}

/// An executor that is not root could not remove what root leaves in its sandbox.
fn owner() -> Option<String> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    (!uid.is_root()).then(|| format!("{uid}:{gid}"))
}

/// `host:container[:ro]` with the host's part made absolute.
fn bind(mount: &str, host: &Layout) -> Result<String, TaskFailure> {
    let bad = || {
        TaskFailure::hopeless(format!(
            "mount {mount:?} cannot be read: write \"host folder:folder in the container\", with \":ro\" behind it for read-only"
        ))
    };
    let (source, rest) = mount.split_once(':').ok_or_else(bad)?;
    let (target, mode) = rest.split_once(':').unwrap_or((rest, "rw"));
    if source.is_empty() || !target.starts_with('/') || !matches!(mode, "ro" | "rw") {
        return Err(bad());
    }
    let source = host.on_agent(source.as_ref()).ok_or_else(bad)?;
    Ok(format!("{}:{target}:{mode}", source.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_mount_starts_in_the_working_directory() {
        let layout = Layout::on_host("/s/t".into());
        assert_eq!(
            bind("data:/data:ro", &layout).unwrap(),
            "/s/t/work/data:/data:ro"
        );
        assert_eq!(bind("/srv:/srv", &layout).unwrap(), "/srv:/srv:rw");
    }

    #[test]
    fn a_mount_that_is_none_says_how_to_write_one() {
        let layout = Layout::on_host("/s/t".into());
        for bad in ["/srv", ":/x", "/a:b", "/a:/b:wo"] {
            let failure = bind(bad, &layout).unwrap_err().0;
            assert!(
                failure.message.contains(":ro") && !failure.retryable,
                "{}",
                failure.message
            );
        }
    }

    #[test]
    fn a_containers_ports_are_the_agents_by_the_same_numbers() {
        let body = |ports: &[u16]| {
            let container = Container {
                name: "meson-t".to_owned(),
                image: "i".to_owned(),
                args: Vec::new(),
                entrypoint: None,
                env: BTreeMap::new(),
                binds: Vec::new(),
                labels: HashMap::new(),
                resources: Resources::DEFAULT,
                ports: ports.to_vec(),
            };
            serde_json::to_value(container.body(&ImageInspect::default())).unwrap()
        };
        let two = body(&[31_002, 31_007]);
        assert_eq!(
            two["HostConfig"]["PortBindings"],
            serde_json::json!({
                "31002/tcp": [{"HostPort": "31002"}],
                "31007/tcp": [{"HostPort": "31007"}],
            })
        );
        assert_eq!(
            two["ExposedPorts"],
            serde_json::json!({"31002/tcp": {}, "31007/tcp": {}})
        );
        assert!(body(&[]).get("ExposedPorts").is_none());
        assert!(body(&[])["HostConfig"].get("PortBindings").is_none());
    }
}
