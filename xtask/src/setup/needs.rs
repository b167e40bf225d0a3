//! What tasks need, how its presence is checked, and which packages bring it.

use crate::{machine, run};
use std::process::Command;

/// Something a task needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// Compilers for the workspace: C for ring, protoc for etcd's interface.
    Build,
    /// PostgreSQL's and etcd's programs.
    Cluster,
    /// Programs that make network namespaces and drop packets.
    Network,
    /// Programs that make disks which can be full and frozen.
    Disks,
    /// A web server to compare with: HAProxy.
    Yardstick,
    /// The program that checks systemd's units; systemd itself need not run.
    Units,
    /// Genuine Patroni, which tests put beside pgherd.
    Patroni,
}

/// Something that is not there.
pub(crate) struct Lack {
    /// For a person: what and why.
    pub(crate) what: &'static str,
    /// Sets of packages, any of which brings it; the first that the distribution has is taken.
    pub(crate) packages: &'static [&'static [&'static str]],
}

/// Everything that `needs` ask for and this machine lacks.
pub(crate) fn missing(needs: &[Need]) -> Vec<Lack> {
    let mut lacks = Vec::new();
    for need in needs {
        match need {
            Need::Build => build(&mut lacks),
            Need::Cluster => cluster(&mut lacks),
            Need::Network => network(&mut lacks),
            Need::Disks => disks(&mut lacks),
            Need::Yardstick => yardstick(&mut lacks),
            Need::Units => units(&mut lacks),
            Need::Patroni => patroni(&mut lacks),
        }
    }
    lacks
}

fn build(lacks: &mut Vec<Lack>) {
    if machine::find_program("cc").is_none() {
        lacks.push(Lack {
            what: "a C compiler (the cryptography is assembler and C)",
            packages: &[&["gcc", "libc6-dev"]],
        });
    }
    if !protoc_works() {
        lacks.push(Lack {
            what: "protoc and its standard files (etcd's interface is generated from them)",
            packages: &[&["protobuf-compiler", "libprotobuf-dev"]],
        });
    }
}

/// protoc alone is not enough: where recommended packages are off, the files that etcd's interface
/// includes come with another package. Only a try tells.
fn protoc_works() -> bool {
    let protoc = std::env::var_os("PROTOC").unwrap_or_else(|| "protoc".into());
    let folder = std::env::temp_dir().join(format!("pgherd-protoc-{}", std::process::id()));
    if std::fs::create_dir(&folder).is_err() {
        return false;
    }
    let source = "syntax = \"proto3\";\nimport \"google/protobuf/descriptor.proto\";\n";
    let works = std::fs::write(folder.join("probe.proto"), source).is_ok()
        && run::succeeds(
            Command::new(protoc)
                .arg("--proto_path=.")
                .arg("--descriptor_set_out=probe.out")
                .arg("probe.proto")
                .current_dir(&folder),
        );
    // Left-overs in the temporary directory do no harm.
    let _ = std::fs::remove_dir_all(&folder);
    works
}

fn cluster(lacks: &mut Vec<Lack>) {
    if machine::postgres_bin_dir().is_none() {
        lacks.push(Lack {
            what: "PostgreSQL's server programs (the distribution's default version)",
            packages: &[&["postgresql"]],
        });
    }
    if machine::find_program("etcd").is_none() || machine::find_program("etcdctl").is_none() {
        lacks.push(Lack {
            what: "etcd and etcdctl (they hold the leader lock)",
            packages: &[&["etcd-server", "etcd-client"], &["etcd"]],
        });
    }
}

fn network(lacks: &mut Vec<Lack>) {
    if machine::find_program("ip").is_none() {
        lacks.push(Lack {
            what: "ip (tests cut nodes off in network namespaces)",
            packages: &[&["iproute2"]],
        });
    }
    if machine::find_program("nft").is_none() {
        lacks.push(Lack {
            what: "nft (tests drop packets)",
            packages: &[&["nftables"]],
        });
    }
}

fn disks(lacks: &mut Vec<Lack>) {
    if machine::find_program("mkfs.ext4").is_none() {
        lacks.push(Lack {
            what: "mkfs.ext4 (tests fill and freeze disks that are files)",
            packages: &[&["e2fsprogs"]],
        });
    }
    if machine::find_program("fsfreeze").is_none() || machine::find_program("losetup").is_none() {
        lacks.push(Lack {
            what: "fsfreeze and losetup (tests fill and freeze disks that are files)",
            packages: &[&["util-linux", "mount"], &["util-linux"]],
        });
    }
}

fn yardstick(lacks: &mut Vec<Lack>) {
    if machine::find_program("haproxy").is_none() {
        lacks.push(Lack {
            what: "haproxy (its fixed answer shows how fast this machine can answer)",
            packages: &[&["haproxy"]],
        });
    }
}

fn units(lacks: &mut Vec<Lack>) {
    if machine::find_program("systemd-analyze").is_none() {
        lacks.push(Lack {
            what: "systemd-analyze (a test checks the unit that `pgherd install agent` writes)",
            packages: &[&["systemd"]],
        });
    }
}

fn patroni(lacks: &mut Vec<Lack>) {
    let usable =
        |program: &str| run::succeeds(Command::new(program).args(["-c", "import venv, ensurepip"]));
    if !super::patroni::is_there() && !usable(super::patroni::python()) {
        lacks.push(Lack {
            what: "Python's virtual environments (for genuine Patroni)",
            packages: &[&["python3", "python3-venv"]],
        });
    }
}
