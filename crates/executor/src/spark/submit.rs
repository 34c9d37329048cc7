//! The command line of spark-submit.

use std::collections::BTreeMap;
use std::net::TcpListener;

use meson_core::resources::Resources;
use meson_core::run::{LaunchKind, LaunchSpec};

use super::find::Spark;
use crate::failure::TaskFailure;
use crate::layout::Layout;
use crate::text::{Local, Quoting, render};

/// A property by which an application's page is known to be that of this attempt.
pub const TASK_PROPERTY: &str = "spark.meson.task";

/// Memory that a JVM needs beside its heap: Spark's own rule for containers
/// (`spark.driver.memoryOverheadFactor`, and its minimum).
const OVERHEAD_FACTOR: f64 = 0.10;
const OVERHEAD_MIN_MIB: u64 = 384;
/// Spark refuses to start with less (`UnifiedMemoryManager`: 450 MB); with some room.
const HEAP_MIN_MIB: u64 = 512;

/// A port that was free a moment ago. Spark tries the next ones if it is taken meanwhile.
///
/// # Errors
/// The system has none.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("0.0.0.0", 0))?.local_addr()?.port())
}

/// Program and arguments.
pub fn argv(
    spec: &LaunchSpec,
    spark: &Spark,
    ui_port: u16,
    local: &Local,
    layout: &Layout,
) -> Result<Vec<String>, TaskFailure> {
    let LaunchKind::Spark {
        app,
        args,
        main_class,
        master,
        conf,
        ..
    } = &spec.kind
    else {
        return Err(TaskFailure::platform(
            "a step of another kind came to the Spark runner",
        ));
    };
    let text = |text| render(text, Quoting::Plain, local, layout);
    let mut properties: BTreeMap<String, String> = [
        ("spark.ui.enabled", "true".to_owned()),
        ("spark.ui.port", ui_port.to_string()),
        ("spark.ui.showConsoleProgress", "false".to_owned()),
        (TASK_PROPERTY, spec.task.to_string()),
        ("spark.app.name", spec.task.to_string()),
        ("spark.local.dir", layout.temporary().display().to_string()),
        // A metastore or a warehouse in the working directory is the step's own.
        ("spark.driver.memory", heap(&spec.resources)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for (name, value) in conf {
        properties.insert(name.clone(), text(value)?);
    }
    let mut argv = vec![spark.home.join("bin/spark-submit").display().to_string()];
    argv.extend([
        "--master".to_owned(),
        master
            .clone()
            .unwrap_or_else(|| local_master(&spec.resources)),
    ]);
    if let Some(class) = main_class {
        argv.extend(["--class".to_owned(), class.clone()]);
    }
    for (name, value) in properties {
        argv.extend(["--conf".to_owned(), format!("{name}={value}")]);
    }
    argv.push(text(app)?);
    for arg in args {
        argv.push(text(arg)?);
    }
    Ok(argv)
}

fn local_master(resources: &Resources) -> String {
    format!("local[{}]", resources.cpus.0.div_ceil(1000).max(1))
}

fn heap(resources: &Resources) -> String {
    let mib = resources.mem.0 >> 20;
    let overhead = ((mib as f64 * OVERHEAD_FACTOR) as u64).max(OVERHEAD_MIN_MIB);
    format!("{}m", mib.saturating_sub(overhead).max(HEAP_MIN_MIB))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::fixture::spec;
    use meson_core::expression::{Piece, ResolvedText};
    use meson_core::resources::MilliCpus;
    use meson_core::units::Bytes;

    fn plain(text: &str) -> ResolvedText {
        ResolvedText(vec![Piece::Text(text.into())])
    }

    #[test]
    fn the_step_s_own_properties_go_before_ours() {
        let mut spec = spec("r-1.train.1", "");
        spec.resources = Resources {
            cpus: MilliCpus(1500),
            mem: Bytes::from_mib(8192),
            ..Resources::DEFAULT
        };
        spec.kind = LaunchKind::Spark {
            app: plain("train.py"),
            args: vec![plain("--fast")],
            main_class: None,
            version: None,
            master: None,
            conf: [("spark.ui.showConsoleProgress".to_owned(), plain("true"))].into(),
        };
        let spark = Spark {
            home: "/spark".into(),
            version: "3.5.8".into(),
            python: None,
        };
        let argv = argv(
            &spec,
            &spark,
            4141,
            &Local::default(),
            &Layout::on_host("/t".into()),
        )
        .unwrap();
        assert_eq!(
            argv[..3],
            ["/spark/bin/spark-submit", "--master", "local[2]"]
        );
        assert_eq!(argv[argv.len() - 2..], ["train.py", "--fast"]);
        for property in [
            "spark.ui.port=4141",
            "spark.ui.showConsoleProgress=true",
            "spark.meson.task=r-1.train.1",
            "spark.driver.memory=7373m",
        ] {
            assert!(
                argv.iter().any(|word| word == property),
                "{property}: {argv:?}"
            );
        }
    }

    #[test]
    fn a_small_step_gets_the_least_heap_that_spark_takes() {
        assert_eq!(heap(&Resources::DEFAULT), "512m");
    }
}
