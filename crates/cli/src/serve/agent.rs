//! `mendb agent`: the server beside one ClickHouse server of a cluster, which does what its coordinator orders.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use mendb_engines::clickhouse::survey;
use mendb_server::Store;
use mendb_server::guard::Guard;
use mendb_server::tls::Certificates;

use super::agent_check::{self, AgentFiles};
use super::house::House;
use super::program::Program;
use super::{Serving, routes};
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::settings::Sources;
use crate::settings::secret::hide_in_url;
use crate::target::Target;

/// Work for a cluster beside one of its ClickHouse servers
///
/// An agent does the part of its server in what is done to a cluster: mendb backup --cluster and the like ask it over HTTP
/// with mutual TLS, and it reads and writes the repository itself. It lets in who shows a certificate that --tls-client-ca
/// has signed, and takes orders of one coordinator: the first that comes, until it is started with --new-coordinator.
///
/// It has the server open for as long as it runs, and drives what it was ordered by itself, also where the coordinator is
/// gone meanwhile. It ends with SIGTERM within 10 seconds; operations go on with the next agent. SIGHUP has it read its
/// settings and certificates again.
#[derive(Debug, Args)]
pub struct AgentCommand {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The certificates of the agent, in PEM
    #[arg(long, value_name = "FILE")]
    tls_cert: PathBuf,
    /// Their key, in PEM
    #[arg(long, value_name = "FILE")]
    tls_key: PathBuf,
    /// The certificates of who signs those of coordinators, in PEM
    #[arg(long, value_name = "FILE")]
    tls_client_ca: PathBuf,
    /// Forget the coordinator that gave orders so far: the next that comes is taken
    #[arg(long)]
    new_coordinator: bool,
    /// Only say whether an agent could work here: certificates, what the user of the server may do and how that is set, its
    /// files and disks, the journal, the repository. Exit code 3 when something is missing without which nothing works
    #[arg(long, conflicts_with = "new_coordinator")]
    check: bool,
}

impl AgentCommand {
    /// Serves until the process is told to end.
    ///
    /// # Errors
    /// The target is no ClickHouse server or cannot be opened, the certificates cannot be used, or the address is taken.
    pub fn run(
        self,
        context: &Context,
        program: Program,
        sources: Sources,
    ) -> Result<Verdict, Failure> {
        let Target::ClickHouse(server) = context.target()? else {
            return Err(Failure::misuse(
                "an agent works beside a ClickHouse server, and the target is none",
            )
            .hint(
                "name it with --target clickhouse://user@host:8123/; mendb serve is for others",
            ));
        };
        if self.check {
            let files = AgentFiles {
                certificate: &self.tls_cert,
                key: &self.tls_key,
                client_ca: &self.tls_client_ca,
            };
            return agent_check::check(context, &server, &files);
        }
        let certificates = Certificates::open(
            &self.tls_cert,
            &self.tls_key,
            Some(self.tls_client_ca.as_path()),
        );
        let certificates =
            certificates.map_err(|error| Failure::of(FailureKind::FixInput, &error))?;
        let place = survey(&context.connection_options(&server))?.place;
        let serving = Serving {
            listen: self.listen,
            certificates: Some(Arc::new(certificates)),
            is_secure: true,
            routes: routes::ROUTES,
            advertised: None,
            guard: &|_| Guard {
                hosts: BTreeSet::new(),
                agent_of: Some(place.clone()),
            },
            greet: &|house, store, link| self.greet(context, house, store, link),
        };
        serving.run(context, program, sources)
    }

    fn greet(
        &self,
        context: &Context,
        house: &House,
        store: &Store,
        link: &str,
    ) -> Result<(), Failure> {
        if self.new_coordinator {
            store.forget_coordinator()?;
        }
        context.say(&format!(
            "mendb is the agent of {} at {link}, with backups in {}",
            context.target()?.shown_url(),
            hide_in_url(house.repository.url())
        ));
        Ok(())
    }
}
