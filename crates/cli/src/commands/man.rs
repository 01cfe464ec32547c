//! `internals man DIR`: the man pages, made from the arguments.

use std::io::Write;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::args;
use crate::failure::Failure;

/// What hull(8) says beside its commands. roff: a dot begins a request.
const MORE: &str = r#".SH "EXIT STATUS"
.TP
0
It is done.
.TP
1
It was not done; standard error says why and what to do.
.TP
2
The command line asks for something that hull cannot do.
.TP
77
\fBhull upgrade \-\-check \-\-exit\-code\fR: there is nothing new.
.SH ENVIRONMENT
.TP
REGISTRY_AUTH_FILE
The file with the passwords of registries, where no \-\-authfile is given and the machine has none of its own.
.TP
CONTAINERS_REGISTRIES_CONF
The file to read in place of each registries.conf.
.TP
CONTAINERS_STORAGE_CONF
The file that says where podman's store is, for containers\-storage: images.
.TP
HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY
Which proxy leads to a registry; in capitals or small.
.TP
NO_COLOR
Where it is set, nothing is coloured.
.SH FILES
.TP
/usr/lib/bootc/kargs.d, /usr/lib/bootc/install
What an image asks for: kernel arguments, and how it is installed.
.TP
/run/ostree/auth.json, /etc/ostree/auth.json, /usr/lib/ostree/auth.json
The passwords of registries: the first that exists; else those of podman.
.TP
/etc/containers/registries.conf, registries.conf.d
Mirrors, short names, and registries without certificates.
.TP
/sysroot/composefs, /sysroot/state
The store, and the deployments with their /etc and /var.
.SH "SEE ALSO"
containers\-auth.json(5), containers\-registries.conf(5), containers\-certs.d(5), systemd\-boot(7)
"#;

/// Writes a page for hull and one for each visible command.
pub(crate) fn write(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|source| Failure::Write {
        path: dir.display().to_string(),
        source,
    })?;
    let mut command = args::command("hull").help_template("");
    command.build();
    write_pages(&without_help(command), "hull", dir)
}

/// The same without the commands that explain commands: a manual has no need of them.
fn without_help(command: Command) -> Command {
    command.mut_subcommands(|sub| match sub.get_name() {
        "help" => sub.hide(true),
        _ => without_help(sub),
    })
}

fn write_pages(command: &Command, name: &str, dir: &Path) -> Result<(), Failure> {
    write_page(command, name, dir)?;
    for sub in command.get_subcommands() {
        if !sub.is_hide_set() {
            write_pages(sub, &format!("{name}-{}", sub.get_name()), dir)?;
        }
    }
    Ok(())
}

fn write_page(command: &Command, name: &str, dir: &Path) -> Result<(), Failure> {
    let path = dir.join(format!("{name}.8"));
    let failed = |source| Failure::Write {
        path: path.display().to_string(),
        source,
    };
    let page = Man::new(command.clone()).section("8");
    let mut file = std::fs::File::create(&path).map_err(failed)?;
    page.render(&mut file).map_err(failed)?;
    if name == "hull" {
        file.write_all(MORE.as_bytes()).map_err(failed)?;
    }
    Ok(())
}
