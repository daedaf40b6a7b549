//! `bundle login` and `bundle logout`.

use std::io::{BufRead, Read};

use anyhow::{Context, Result, bail};

use crate::cli::{Login, Logout};
use crate::output;
use crate::registry::credentials::Kept;
use crate::registry::{Credential, Credentials};

/// A password is tried before it is kept.
pub fn login(args: &Login) -> Result<()> {
    let credentials = credentials()?;
    let client = super::client(&args.registry)?;
    let username = match &args.username {
        Some(name) => name.clone(),
        None if args.password_stdin => bail!("--password-stdin: --username is needed with it"),
        None => {
            eprint!("Username: ");
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).context("reading the user name")?;
            line.trim().to_owned()
        }
    };
    let password = match (&args.password, args.password_stdin) {
        (Some(password), _) => password.clone(),
        (None, true) => {
            let mut text = String::new();
            std::io::stdin().lock().take(64 << 10).read_to_string(&mut text).context("reading the password")?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        (None, false) => rpassword::prompt_password("Password: ")
            .context("reading the password: without a terminal use --password-stdin")?,
    };
    if username.is_empty() || password.is_empty() {
        bail!("a user name and a password are needed");
    }
    let credential = Credential::Basic { user: username, password };
    client.check(&args.host, Some(&credential))?;
    let kept = credentials.login(&args.host, &credential)?;
    let place = match kept {
        Kept::File(path) => format!("the password is in {}, readable by you alone, not encrypted", path.display()),
        Kept::Helper(name) => format!("the password is with docker-credential-{name}"),
    };
    output::print(&format!("Login succeeded; {place}\n"))
}

pub fn logout(args: &Logout) -> Result<()> {
    let there = credentials()?.logout(&args.host)?;
    output::print(&if there {
        format!("Removed the login of {}\n", args.host)
    } else {
        format!("Not logged in to {}\n", args.host)
    })
}

fn credentials() -> Result<Credentials> {
    super::credentials().context("where passwords are kept is not known: neither DOCKER_CONFIG nor HOME is set")
}
