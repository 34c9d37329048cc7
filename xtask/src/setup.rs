//! What the machine must have: installed where it is missing, and said.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::shell::{cache, has, program, root, run, run_quietly, say, succeeds};

/// Debian packages, by a program or file that shows that they are there.
const PACKAGES: [(&str, &str); 6] = [
    ("java", "openjdk-17-jre-headless"),
    ("Rscript", "r-base-core"),
    ("dockerd", "docker.io"),
    ("busybox", "busybox-static"),
    ("python3", "python3-venv"),
    ("tar", "tar"),
];

/// The Spark that steps of version 3.5 run on, as PyPI has it.
const PYSPARK: &str = "pyspark==3.5.8";

/// The image that the recommendation pipeline publishes with.
pub(crate) const PUBLISHER_IMAGE: &str = "model-publisher";

/// Everything that steps need on this machine.
pub(crate) struct Tools {
    /// `PATH` with Python environment and Spark in front.
    pub(crate) path: std::ffi::OsString,
    /// The MovieLens sample that comes with Spark.
    pub(crate) ratings: PathBuf,
    /// The engine that we had to start, if none ran.
    _docker: Option<Engine>,
}

/// Installs what is missing.
pub(crate) fn tools() -> anyhow::Result<Tools> {
    debian()?;
    let venv = python()?;
    let docker = docker()?;
    publisher_image()?;
    let spark = std::fs::read_dir(venv.join("lib"))
        .with_context(|| format!("{} is no Python environment", venv.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("site-packages/pyspark"))
        .find(|path| path.is_dir())
        .context("pyspark is installed but cannot be found")?;
    let mut folders = vec![venv.join("bin")];
    folders.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    Ok(Tools {
        path: std::env::join_paths(folders)?,
        ratings: spark.join("data/mllib/als/sample_movielens_ratings.txt"),
        _docker: docker,
    })
}

fn debian() -> anyhow::Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(program, _)| !has(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(format!("installing Debian packages: {}", missing.join(" ")));
    if !has("apt-get") {
        bail!(
            "this is no Debian: install what provides {} yourself, then try again",
            missing.join(", ")
        );
    }
    run_quietly(program("apt-get").args(["update", "-qq"]))?;
    let mut install = program("apt-get");
    install
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&missing);
    run_quietly(install.env("DEBIAN_FRONTEND", "noninteractive"))
        .context("packages could not be installed; as another user than root, install them by hand")
}

fn python() -> anyhow::Result<PathBuf> {
    let venv = cache()?.join("venv");
    if !venv.join("bin/spark-submit").is_file() {
        say(format!(
            "making a Python environment with {PYSPARK} in {}",
            venv.display()
        ));
        run_quietly(program("python3").args(["-m", "venv"]).arg(&venv))?;
        run_quietly(program(venv.join("bin/pip")).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            PYSPARK,
        ]))?;
    }
    Ok(venv)
}

/// A Docker engine that ends with us.
struct Engine(Child);

impl Drop for Engine {
    fn drop(&mut self) {
        // SIGTERM, so that it stops its containers and containerd.
        let _ = succeeds(program("kill").arg(self.0.id().to_string()));
        let _ = self.0.wait();
    }
}

fn docker() -> anyhow::Result<Option<Engine>> {
    let answers = || succeeds(program("docker").arg("info"));
    if answers() {
        return Ok(None);
    }
    let folder = cache()?;
    let log = folder.join("dockerd.log");
    say(format!(
        "starting a Docker engine; it logs to {}",
        log.display()
    ));
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let engine = Engine(
        program("dockerd")
            .arg("--data-root")
            .arg(folder.join("docker"))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("cannot start dockerd")?,
    );
    for _ in 0..LOOKS_A_MINUTE {
        if answers() {
            return Ok(Some(engine));
        }
        pause();
    }
    bail!(
        "the Docker engine does not answer after a minute; see {}",
        log.display()
    );
}

fn publisher_image() -> anyhow::Result<()> {
    let source = root().join("examples/recommendations/publisher");
    let context = cache()?.join("publisher");
    std::fs::create_dir_all(&context)?;
    for file in ["Dockerfile", "publish.sh"] {
        std::fs::copy(source.join(file), context.join(file))
            .with_context(|| format!("cannot copy {file}"))?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find(|path| std::path::Path::new(path).is_file())
        .context("busybox is installed but cannot be found")?;
    std::fs::copy(busybox, context.join("busybox"))?;
    let mut build = program("docker");
    build
        .env("DOCKER_BUILDKIT", "0")
        .args(["build", "--quiet", "--tag", PUBLISHER_IMAGE])
        .arg(&context);
    run_quietly(&mut build).context("cannot build the publisher's image")
}

/// Cargo's own tools that the checks need.
pub(crate) fn cargo_tool(name: &str) -> anyhow::Result<()> {
    let program_name = format!("cargo-{name}");
    if has(&program_name) {
        return Ok(());
    }
    say(format!("installing {program_name}"));
    run(crate::shell::cargo().args(["install", "--locked", "--quiet", &program_name]))
}

const LOOKS_A_MINUTE: u32 = 600;

/// Between two looks at something that somebody else brings about.
#[expect(
    clippy::disallowed_methods,
    reason = "a program of its own, with nothing to block"
)]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}
