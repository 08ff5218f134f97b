//! What stands at the top of the configuration, outside of any section.

use std::path::PathBuf;

use ruma::OwnedServerName;

use super::section::section;
use crate::http::proxy::AddressRange;

section! {
    /// Who this server is and where it keeps its data.
    pub struct General {
        /// The name in user ids: `@alice:server_name`. It cannot be changed later. A name with which other servers
        /// are to talk has to be a domain of yours.
        server_name: OwnedServerName = OwnedServerName::try_from("localhost").expect("is a server name");
        /// Where everything is kept: the signing key, and the database unless it is somewhere else.
        data_dir: PathBuf = PathBuf::from("./data");
        /// The key with which the server signs its events. It is made when it is not there. Default: `signing.key`
        /// in the data directory.
        signing_key_path: Option<PathBuf> = None => "'/etc/myelin/signing.key'";
        /// The address under which clients reach this server: answered at `/.well-known/matrix/client`.
        public_baseurl: Option<String> = None => "'https://matrix.example.org'";
        /// Proxies whose word on a client's address is believed (`X-Forwarded-For`): addresses, or ranges such as
        /// `10.0.0.0/8`.
        trusted_proxies: Vec<AddressRange> = Vec::new();
    }
}

impl General {
    /// Where the signing key is.
    pub fn signing_key_path(&self) -> PathBuf {
        self.signing_key_path.clone().unwrap_or_else(|| self.data_dir.join("signing.key"))
    }
}
