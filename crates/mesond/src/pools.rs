//! Brokers for the pools of a configuration.

use std::sync::Arc;

use meson_core::matching;
use meson_core::resources::{MilliCpus, Resources};
use meson_core::units::{Bytes, Duration};
use meson_engine::broker::{ExecutorTemplate, MesosBrokers, MesosPool, Settings};
use meson_engine::pool::BrokerFactories;
use meson_engine::slurm::{self, SlurmBrokers};
use meson_mesos::types::{CommandInfo, Uri};
use meson_slurm::Slurm;

use crate::config::{
    AnyPool, Config, ConfigError, CredentialFile, Packing, Pool, SlurmPool, TlsFiles, terms,
};
use crate::system;

/// What starts the brokers of all pools, once everything that they need here is there.
pub(crate) async fn brokers(config: &Config) -> Result<BrokerFactories, ConfigError> {
    let (mut mesos, mut slurm) = (Vec::new(), Vec::new());
    for pool in &config.pools {
        match pool {
            AnyPool::Mesos(pool) => mesos.push(mesos_pool(pool, own_page(config))?),
            AnyPool::Slurm(pool) => {
                // A pool of another region is served by coordinators there.
                if pool.region.is_empty() || pool.region == config.node.region {
                    let wrong = |reason| ConfigError::Pool {
                        pool: pool.name.clone(),
                        reason,
                    };
                    if let Some(missing) = pool.missing() {
                        return Err(wrong(missing));
                    }
                    let commands = Slurm::new(pool.slurm());
                    let checked = commands.check().await;
                    checked.map_err(|error| wrong(error.to_string()))?;
                }
                slurm.push(slurm_pool(pool)?);
            }
        }
    }
    Ok(BrokerFactories(vec![
        Arc::new(MesosBrokers::new(mesos)),
        Arc::new(SlurmBrokers::new(slurm)),
    ]))
}

/// Where people can look at us.
fn own_page(config: &Config) -> Option<String> {
    let listen = &config.http.listen;
    let own = (!listen.ends_with(":0")).then(|| format!("http://{listen}"));
    config.http.advertise.first().cloned().or(own)
}

fn mesos_pool(pool: &Pool, webui_url: Option<String>) -> Result<MesosPool, ConfigError> {
    let wrong = |error: anyhow::Error| ConfigError::Pool {
        pool: pool.name.clone(),
        reason: error.to_string(),
    };
    let executor = &pool.executor;
    let command = CommandInfo {
        shell: Some(false),
        value: Some(executor.command.clone()),
        arguments: vec![executor.command.clone()],
        uris: executor
            .uri
            .iter()
            .map(|uri| Uri {
                value: uri.clone(),
                executable: Some(true),
                cache: Some(true),
                ..Uri::default()
            })
            .collect(),
        environment: executor.memory.map(|keeping| {
            [("MESON_EXECUTOR_MEMORY", keeping.name())]
                .into_iter()
                .collect()
        }),
        ..CommandInfo::default()
    };
    let resources = Resources {
        // Non-negative and finite: the configuration was checked.
        cpus: MilliCpus((executor.cpus * 1000.0).round() as u64),
        mem: Bytes::from_mib(executor.mem),
        ..Resources::ZERO
    };
    let mut settings = Settings::new(&pool.role, ExecutorTemplate { command, resources });
    settings.policy.keep_gpus = pool.keep_gpus;
    settings.policy.packing = packing(pool.packing);
    // The configuration was checked.
    settings.owners = terms(&pool.owners).unwrap_or_default();
    settings.owner_roles.clone_from(&pool.owner_roles);
    settings.constrain_offers = pool.constrain_offers;
    settings.vacate = pool.vacate_before_s.map(Duration::from_secs);
    settings.seed = system::seed();
    let pacing = &mut settings.pacing;
    set(
        &mut pacing.starting_per_agent,
        pool.pacing.starting_per_agent,
    );
    set(&mut pacing.per_second, pool.pacing.per_second);
    let (brake, wanted) = (&mut settings.brake, pool.brake);
    set(&mut brake.percent, wanted.percent);
    set(&mut brake.least_agents, wanted.least_agents);
    set(&mut brake.window, wanted.window_s.map(Duration::from_secs));
    set(&mut brake.calm, wanted.calm_s.map(Duration::from_secs));
    let credential = pool.credential.as_ref().map(CredentialFile::read);
    let tls = pool.tls.as_ref().map(TlsFiles::read);
    Ok(MesosPool {
        name: pool.name.clone(),
        region: pool.region.clone(),
        masters: pool.masters.0.clone(),
        encoding: pool.encoding.into(),
        credential: credential.transpose().map_err(wrong)?,
        tls: tls.transpose().map_err(wrong)?,
        user: pool.user.clone(),
        webui_url,
        gpus: pool.gpus,
        revocable: pool.revocable,
        region_aware: pool.region_aware,
        settings,
        seed: system::seed(),
    })
}

fn slurm_pool(pool: &SlurmPool) -> Result<slurm::SlurmPool, ConfigError> {
    let wrong = |(key, problem): (&str, String)| ConfigError::Pool {
        pool: pool.name.clone(),
        reason: format!("{key}: {problem}"),
    };
    let executor = pool.executor.command.display().to_string();
    let template = ExecutorTemplate {
        command: CommandInfo {
            value: Some(executor.clone()),
            ..CommandInfo::default()
        },
        // Each job has an executor of its own, and asks for it itself.
        resources: Resources::ZERO,
    };
    let mut settings = Settings::new("*", template);
    settings.whole_cpus = true;
    // Slurm has no offers that a filter of its own could hold back.
    settings.constrain_offers = false;
    settings.policy.keep_gpus = pool.keep_gpus;
    settings.policy.packing = packing(pool.packing);
    Ok(slurm::SlurmPool {
        name: pool.name.clone(),
        region: pool.region.clone(),
        partition: pool.partition.clone(),
        account: pool.account.clone(),
        qos: pool.qos.clone(),
        reservation: pool.reservation.clone(),
        time_limit_minutes: pool.time_limit_minutes,
        user: pool.job_user().map_err(wrong)?,
        owner: pool.owner().map_err(wrong)?,
        spool: pool.spool.clone(),
        scratch: pool.scratch.clone(),
        commands: pool.slurm(),
        poll: pool.poll(),
        executor,
        executor_mib: pool.executor.mem,
        settings,
        seed: system::seed(),
    })
}

fn packing(packing: Packing) -> matching::Packing {
    match packing {
        Packing::Pack => matching::Packing::Pack,
        Packing::Spread => matching::Packing::Spread,
    }
}

/// What the configuration says stands in for the default.
fn set<T>(value: &mut T, configured: Option<T>) {
    if let Some(configured) = configured {
        *value = configured;
    }
}
