//! The configuration files of both flavors.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Flavor, ServerOptions};

/// As every server has it unless told otherwise; the engine in process would remove them at once.
const OLD_PARTS_LIFETIME_S: u32 = 480;

/// A server that was killed counts as a replica at work for so long.
const SESSION_TIMEOUT_MS: u32 = 2000;

#[derive(Debug, Clone, Copy, Default)]
pub struct Ports {
    pub http: u16,
    pub tcp: u16,
    /// Where other replicas fetch parts.
    pub interserver: u16,
}

pub struct Config<'a> {
    pub root: &'a Path,
    pub data: &'a Path,
    pub name: &'a str,
    pub user: (&'a str, &'a str),
    pub ports: Ports,
    pub options: &'a ServerOptions,
}

impl Config<'_> {
    /// Writes it, and says where.
    pub fn write(&self, flavor: Flavor) -> PathBuf {
        let path = self.root.join("config.xml");
        let text = match flavor {
            Flavor::Current => self.current(),
            Flavor::V18 => {
                fs::write(self.root.join("users.xml"), self.users()).unwrap();
                self.v18()
            }
        };
        fs::write(&path, text).unwrap();
        path
    }

    fn current(&self) -> String {
        format!(
            "<clickhouse>\n{}{}{}</clickhouse>\n",
            self.common(),
            self.storage(),
            self.backups(),
        )
    }

    fn v18(&self) -> String {
        let options = self.options;
        assert!(
            !(options.jbod || options.tiered || options.objects || options.backups),
            "18.16 has one disk and no backups of its own"
        );
        let root = self.root.display();
        let Ports { http, tcp, .. } = self.ports;
        format!(
            "<yandex>\n{}{}\
             <logger><level>error</level><log>{root}/server.log</log>\
             <errorlog>{root}/server.err.log</errorlog></logger>\n\
             <display_name>{}</display_name>\n\
             <listen_host>127.0.0.1</listen_host>\n\
             <http_port>{http}</http_port><tcp_port>{tcp}</tcp_port>\n\
             <path>{}/</path><tmp_path>{root}/tmp/</tmp_path>\n\
             <users_config>{root}/users.xml</users_config>\n\
             <default_profile>default</default_profile>\
             <default_database>default</default_database>\n\
             <mark_cache_size>67108864</mark_cache_size>\n\
             <max_connections>64</max_connections><keep_alive_timeout>3</keep_alive_timeout>\n\
             </yandex>\n",
            self.common(),
            self.replica(),
            self.name,
            self.data.display(),
        )
    }

    /// What makes it a replica.
    fn replica(&self) -> String {
        let Some(replica) = &self.options.replica else {
            return String::new();
        };
        let (port, name, interserver) = (
            replica.zookeeper_port,
            &replica.name,
            self.ports.interserver,
        );
        let shard = &replica.shard;
        format!(
            "<zookeeper><node><host>127.0.0.1</host><port>{port}</port></node>\
             <session_timeout_ms>{SESSION_TIMEOUT_MS}</session_timeout_ms></zookeeper>\n\
             <macros><replica>{name}</replica><shard>{shard}</shard></macros>\n\
             <interserver_http_port>{interserver}</interserver_http_port>\
             <interserver_http_host>127.0.0.1</interserver_http_host>\n"
        )
    }

    fn users(&self) -> String {
        let (name, password) = self.user;
        format!(
            "<yandex>\n\
             <profiles><default>\
             <max_memory_usage>2000000000</max_memory_usage><log_queries>0</log_queries>\
             </default></profiles>\n\
             <users><{name}><password>{password}</password>\
             <networks><ip>127.0.0.1</ip></networks>\
             <profile>default</profile><quota>default</quota></{name}></users>\n\
             <quotas><default/></quotas>\n\
             </yandex>\n"
        )
    }

    /// What both flavors understand.
    fn common(&self) -> String {
        let lifetime = self.options.old_parts_lifetime_s;
        let lifetime = lifetime.unwrap_or(OLD_PARTS_LIFETIME_S);
        let part_log = if self.options.part_log {
            "<part_log><database>system</database><table>part_log</table>\
             <flush_interval_milliseconds>500</flush_interval_milliseconds></part_log>\n"
        } else {
            ""
        };
        format!(
            "<timezone>UTC</timezone>\n\
             <merge_tree><old_parts_lifetime>{lifetime}</old_parts_lifetime></merge_tree>\n\
             {part_log}{}\n",
            self.options.more_config
        )
    }

    /// The disks and policies of the options.
    fn storage(&self) -> String {
        let mut disks = String::new();
        let mut policies = String::new();
        let mut disk = |name: &str, kind: &str| {
            let path = self.root.join(name);
            fs::create_dir_all(&path).unwrap();
            let path = path.display();
            writeln!(disks, "<{name}>{kind}<path>{path}/</path></{name}>")
                .expect("a String takes everything");
        };
        if self.options.jbod {
            disk("d1", "<type>local</type>");
            disk("d2", "<type>local</type>");
            policies.push_str(
                "<jbod><volumes><main><disk>d1</disk><disk>d2</disk></main></volumes></jbod>\n",
            );
        }
        if self.options.tiered {
            disk("hot", "<type>local</type>");
            disk("cold", "<type>local</type>");
            policies.push_str(
                "<tiered><volumes><hot><disk>hot</disk></hot><cold><disk>cold</disk></cold>\
                 </volumes></tiered>\n",
            );
        }
        if self.options.objects {
            let kind = "<type>object_storage</type>\
                        <object_storage_type>local</object_storage_type>\
                        <metadata_type>local</metadata_type>";
            disk("objects", kind);
            policies.push_str(
                "<objects><volumes><main><disk>objects</disk></main></volumes></objects>\n",
            );
        }
        if self.options.backups {
            disk("backups", "<type>local</type>");
        }
        format!(
            "<storage_configuration>\n<disks>\n{disks}</disks>\n\
             <policies>\n{policies}</policies>\n</storage_configuration>\n"
        )
    }

    fn backups(&self) -> String {
        if !self.options.backups {
            return String::new();
        }
        let path = self.root.join("backups");
        format!(
            "<backups><allowed_disk>backups</allowed_disk>\
             <allowed_path>{}/</allowed_path></backups>\n",
            path.display()
        )
    }
}
