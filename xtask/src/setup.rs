//! What the machine must have: installed where it is missing, and said.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::shell::{cache, has, prints, program, root, run, run_quietly, say, succeeds};

/// Something that the machine must have.
struct Need {
    /// Whether it is there.
    there: fn() -> bool,
    /// The Debian packages that bring it: the first that this Debian knows is taken.
    packages: &'static [&'static str],
}

const NEEDS: [Need; 9] = [
    // Spark 3.5 is made for Java 17; Debian 13 begins at 21, where it runs as well.
    Need {
        there: || has("java"),
        packages: &["openjdk-17-jre-headless", "openjdk-21-jre-headless"],
    },
    Need {
        there: || has("Rscript"),
        packages: &["r-base-core"],
    },
    // Part of docker.io before Debian 13.
    Need {
        there: || has("docker"),
        packages: &["docker-cli", "docker.io"],
    },
    // An engine that somebody else provides is as good as one of our own.
    Need {
        there: || has("dockerd") || engine_answers(),
        packages: &["docker.io"],
    },
    Need {
        there: || static_busybox().is_some(),
        packages: &["busybox-static"],
    },
    // Masters of Mesos choose their leader there, in tests; the server's own start scripts are not
    // used.
    Need {
        there: || Path::new("/usr/share/java/zookeeper.jar").is_file(),
        packages: &["zookeeper"],
    },
    // Clocks that jump, for the chaos scenario of that name.
    Need {
        there: || has("faketime"),
        packages: &["faketime"],
    },
    // Daemons are not on everybody's path.
    Need {
        there: || {
            ["slurmctld", "slurmd", "munged"]
                .iter()
                .all(|name| Path::new("/usr/sbin").join(name).is_file())
        },
        packages: &["slurm-wlm"],
    },
    // Debian has Python without the part that makes environments.
    Need {
        there: || succeeds(program("python3").args(["-c", "import venv, ensurepip"])),
        packages: &["python3-venv"],
    },
];

/// What Python steps need, as PyPI has it: the Spark that steps of version 3.5 run on, and what its
/// `pyspark.ml` imports without saying so.
const PYTHON_PACKAGES: [&str; 2] = ["pyspark==3.5.8", "numpy<3"];

/// The image that the recommendation pipeline publishes with.
pub(crate) const PUBLISHER_IMAGE: &str = "model-publisher";

/// Everything that steps need on this machine.
pub(crate) struct Tools {
    /// `PATH` with Python environment and Spark in front.
    pub(crate) path: std::ffi::OsString,
    /// The MovieLens sample that comes with Spark.
    pub(crate) ratings: PathBuf,
    /// The engine that we had to start, if none ran. It ends with this value.
    docker: Option<Engine>,
}

/// `cargo xtask setup`: installs what is missing, and says how to use it.
pub(crate) fn setup() -> anyhow::Result<()> {
    let tools = tools()?;
    say("everything is there; put it in your shell with");
    println!(
        "export PATH={}",
        cache()?.join("venv/bin").display().to_string() + ":$PATH"
    );
    println!("export RATINGS={}", tools.ratings.display());
    if tools.docker.is_some() {
        println!(
            "dockerd --data-root {} &   # none ran; ours, with the image, ends now",
            cache()?.join("docker").display()
        );
    }
    Ok(())
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
        docker,
    })
}

fn debian() -> anyhow::Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !has("apt-get") {
        let names: Vec<&str> = missing.iter().map(|need| need.packages[0]).collect();
        bail!(
            "this is no Debian: install what Debian calls {} yourself, then try again",
            names.join(", ")
        );
    }
    say("looking for Debian packages");
    run_quietly(program("apt-get").args(["update", "-qq"])).context(BY_HAND)?;
    let mut names = Vec::new();
    for need in missing {
        let known = |name: &&&str| {
            let mut show = program("apt-cache");
            succeeds(show.args(["show", "--quiet=2", "--no-all-versions", name]))
        };
        let name = need.packages.iter().find(known);
        let name = name.with_context(|| {
            format!("this Debian has no package {}", need.packages.join(" or "))
        })?;
        if !names.contains(name) {
            names.push(name);
        }
    }
    say(format!("installing Debian packages: {}", names.join(" ")));
    let mut install = program("apt-get");
    install
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&names);
    run_quietly(install.env("DEBIAN_FRONTEND", "noninteractive")).context(BY_HAND)?;
    for need in &NEEDS {
        if !(need.there)() {
            bail!("{} is installed but of no use", need.packages.join(" or "));
        }
    }
    Ok(())
}

const BY_HAND: &str = "cannot install packages: as another user than root, have them installed";

fn python() -> anyhow::Result<PathBuf> {
    let venv = cache()?.join("venv");
    let wanted = PYTHON_PACKAGES.join("\n");
    // Written last, so that an environment that was left half made is made again.
    let mark = venv.join("packages");
    if std::fs::read_to_string(&mark).is_ok_and(|made| made == wanted) {
        return Ok(venv);
    }
    say(format!(
        "making a Python environment with {} in {}",
        PYTHON_PACKAGES.join(" and "),
        venv.display()
    ));
    run_quietly(program("python3").args(["-m", "venv"]).arg(&venv))?;
    run_quietly(
        program(venv.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(PYTHON_PACKAGES),
    )?;
    std::fs::write(&mark, wanted).with_context(|| format!("cannot write {}", mark.display()))?;
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

fn engine_answers() -> bool {
    has("docker") && succeeds(program("docker").arg("info"))
}

fn docker() -> anyhow::Result<Option<Engine>> {
    if engine_answers() {
        return Ok(None);
    }
    let folder = cache()?;
    let log = folder.join("dockerd.log");
    say(format!(
        "starting a Docker engine; it logs to {}",
        log.display()
    ));
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut engine = Engine(
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
        if engine_answers() {
            return Ok(Some(engine));
        }
        if let Some(status) = engine.0.try_wait()? {
            bail!(
                "the Docker engine ended ({status}); see {}. It needs root: as another user, have one started",
                log.display()
            );
        }
        pause();
    }
    bail!(
        "the Docker engine does not answer after a minute; see {}",
        log.display()
    );
}

/// A busybox that needs no library, so that it can live alone in an image.
fn static_busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file() && !prints(program("ldd").arg(path)).contains("=>"))
}

fn publisher_image() -> anyhow::Result<()> {
    let source = root().join("examples/recommendations/publisher");
    let context = cache()?.join("publisher");
    std::fs::create_dir_all(&context)?;
    for file in ["Dockerfile", "publish.sh"] {
        std::fs::copy(source.join(file), context.join(file))
            .with_context(|| format!("cannot copy {file}"))?;
    }
    let busybox = static_busybox().context("busybox is installed but cannot be found")?;
    std::fs::copy(busybox, context.join("busybox"))?;
    let mut build = program("docker");
    // The classic builder, because the newer one is a package of its own.
    build
        .env("DOCKER_BUILDKIT", "0")
        .args(["build", "--quiet", "--network", "none"])
        .args(["--tag", PUBLISHER_IMAGE])
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
