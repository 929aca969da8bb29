//! One message of each kind, with what it says: the catalogue by example.

use proptest::prelude::*;

use super::*;
use crate::sources::journal::{PROGRAMS, is_pams};

/// `NAME who where result`, `-` where the statement does not say.
fn told(program: &str, message: &str) -> Option<String> {
    let Statement { said, is_step, .. } = read(program, message)?;
    let line = |name: &str, who: &str, from: &str, refused: bool| {
        let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let (step, result) = (if is_step { "step " } else { "" }, if refused { "refused" } else { "done" });
        Some(format!("{step}{name} {} {} {result}", or(who), or(from)))
    };
    match said {
        Said::Command { user, target, command, refusal, .. } => {
            line("RunCommand", &format!("{user}>{target}"), &command, refusal.is_some())
        }
        Said::Login { user, address, .. } => line("Login", &user, &address, false),
        Said::LoginFailure { user, address, .. } => line("Login", &user, &address, true),
        Said::Logout { user } => line("Logout", &user, "", false),
        Said::ContinuedCommand { user, text } => line("ContinueCommand", &user, &text, false),
        Said::Alert { user, why, .. } => line("ReportAlert", &user, &why, true),
        Said::SwitchUser { by, target, tty, is_refused } => {
            line("SwitchUser", &format!("{}>{target}", who(&by)), &tty, is_refused)
        }
        Said::SwitchGroup { user, group, is_refused, .. } => line("SwitchGroup", &user, &group, is_refused),
        Said::AuthenticationFailure { by, user, address, .. } => {
            let by = who(&by);
            line("Authenticate", &if by == user { by } else { format!("{by}>{user}") }, &address, true)
        }
        Said::Connection { name, user, address, why, .. } => line(name, &user, &address, why.is_some()),
        Said::Change(Change { name, subject, by, failure, .. }) => line(name, &by, &subject, failure.is_some()),
        Said::ScheduledCommand { user, command, job } => {
            line("RunCommand", &user, if command.is_empty() { &job } else { &command }, false)
        }
        Said::Authorization { user, action, is_refused, .. } => line("Authorize", &user, &action, is_refused),
        Said::Session { name, user, session, .. } => line(name, &user, &session, false),
    }
}

fn who(by: &By) -> String {
    by.uid.filter(|_| by.name.is_empty()).map_or_else(|| by.name.clone(), |uid| format!("uid {uid}"))
}

/// Program, message and what it says.
const EXAMPLES: &[(&str, &str, &str)] = &[
    // sshd
    ("sshd", "Accepted publickey for alice from 2001:db8::1 port 22 ssh2: ED25519 SHA256:abc", "Login alice 2001:db8::1 done"),
    ("sshd", "Accepted keyboard-interactive/pam for alice from 192.0.2.1 port 22 ssh2", "Login alice 192.0.2.1 done"),
    ("sshd", "Failed password for root from 192.0.2.1 port 22 ssh2", "Login root 192.0.2.1 refused"),
    ("sshd", "Failed password for invalid user x y from 192.0.2.1 port 22 ssh2", "Login x y 192.0.2.1 refused"),
    ("sshd", "Failed none for invalid user  from 192.0.2.1 port 22 ssh2", "Login - 192.0.2.1 refused"),
    ("sshd-session", "Invalid user bob from 192.0.2.1 port 22", "Login bob 192.0.2.1 refused"),
    ("sshd", "Invalid user  from 192.0.2.1 port 22", "Login - 192.0.2.1 refused"),
    ("sshd", "Invalid user webmaster from 192.0.2.1", "Login webmaster 192.0.2.1 refused"),
    ("sshd", "User root from 192.0.2.1 not allowed because not listed in AllowUsers", "Login root 192.0.2.1 refused"),
    ("sshd", "User bob not allowed because account is locked", "Login bob - refused"),
    (
        "sshd",
        "error: maximum authentication attempts exceeded for root from 192.0.2.1 port 22 ssh2 [preauth]",
        "Login root 192.0.2.1 refused",
    ),
    ("sshd", "ROOT LOGIN REFUSED FROM 192.0.2.1 port 22", "Login root 192.0.2.1 refused"),
    ("sshd", "fatal: Access denied for user bob by PAM account configuration [preauth]", "Login bob - refused"),
    ("sshd", "Disconnected from authenticating user root 192.0.2.1 port 22 [preauth]", "Login root 192.0.2.1 refused"),
    ("sshd", "Connection closed by invalid user bob 192.0.2.1 port 22 [preauth]", "Login bob 192.0.2.1 refused"),
    ("sshd", "Connection reset by authenticating user root 192.0.2.1 port 22 [preauth]", "Login root 192.0.2.1 refused"),
    (
        "sshd",
        "Disconnecting invalid user bob 192.0.2.1 port 22: Too many authentication failures [preauth]",
        "Login bob 192.0.2.1 refused",
    ),
    (
        "sshd",
        "Unable to negotiate with 192.0.2.1 port 22: no matching MAC found. Their offer: hmac-sha1 [preauth]",
        "Login - 192.0.2.1 refused",
    ),
    ("sshd", "banner exchange: Connection from 192.0.2.1 port 22: invalid format", "Login - 192.0.2.1 refused"),
    ("sshd", "Bad protocol version identification 'GET / HTTP/1.1' from 192.0.2.1 port 22", "Login - 192.0.2.1 refused"),
    ("sshd", "fatal: Timeout before authentication for 192.0.2.1 port 22", "Login - 192.0.2.1 refused"),
    ("sshd", "Timeout before authentication for connection from 192.0.2.1 to 192.0.2.2, pid = 7", "Login - 192.0.2.1 refused"),
    (
        "sshd",
        "drop connection #0 from [192.0.2.1]:5000 on [192.0.2.2]:22 penalty: failed authentication",
        "Login - 192.0.2.1 refused",
    ),
    ("sshd", "refused connect from host.example (192.0.2.1)", "Login - 192.0.2.1 refused"),
    ("sshd", "Magic value check failed (0) on obfuscated handshake from 192.0.2.1 port 22", "Login - 192.0.2.1 refused"),
    ("sshd", "error: PAM: Authentication failure for illegal user bob from 192.0.2.1", "step Authenticate bob 192.0.2.1 refused"),
    ("sshd", "input_userauth_request: invalid user bob [preauth]", "step Authenticate bob - refused"),
    ("sshd", "Disconnecting: Too many authentication failures for root [preauth]", "step Authenticate root - refused"),
    ("sshd", "Connection from 192.0.2.1 port 22 on 192.0.2.2 port 22 rdomain \"\"", "step OpenConnection - 192.0.2.1 done"),
    ("sshd", "Connection closed by 192.0.2.1 [preauth]", "step CloseConnection - 192.0.2.1 refused"),
    ("sshd", "Received disconnect from 192.0.2.1: 11: Bye Bye [preauth]", "step CloseConnection - 192.0.2.1 refused"),
    (
        "sshd",
        "error: Received disconnect from 192.0.2.1:14: No more methods [preauth]",
        "step CloseConnection - 192.0.2.1 refused",
    ),
    ("sshd", "Disconnected from user alice 192.0.2.1 port 22", "step CloseConnection alice 192.0.2.1 done"),
    ("sshd", "Did not receive identification string from 192.0.2.1", "step CloseConnection - 192.0.2.1 refused"),
    (
        "sshd",
        "reverse mapping checking getaddrinfo for h.example [192.0.2.1] failed - POSSIBLE BREAK-IN ATTEMPT!",
        "step CheckAddress - 192.0.2.1 refused",
    ),
    (
        "sshd",
        "Address 192.0.2.1 maps to h.example, but this does not map back to the address.",
        "step CheckAddress - 192.0.2.1 refused",
    ),
    ("sshd", "Close session: user alice from 192.0.2.1 port 22 id 0", "step EndSession alice 192.0.2.1 done"),
    ("sshd", "Starting session: shell on pts/0 for alice from 192.0.2.1 port 22 id 0", "step StartSession alice 192.0.2.1 done"),
    ("sshd", "Server listening on 0.0.0.0 port 22.", "step ListenNetwork - 0.0.0.0 done"),
    (
        "sshd",
        "Authentication tried for bob with correct key but not from a permitted host (host=h.example, ip=192.0.2.1).",
        "Login bob 192.0.2.1 refused",
    ),
    (
        "sshd-session",
        "/home/bob/.ssh/authorized_keys:3: Authentication tried for bob with correct key but not from a permitted host (host=192.0.2.1, ip=192.0.2.1, required=198.51.100.0/24).",
        "Login bob 192.0.2.1 refused",
    ),
    (
        "sshd",
        "fatal: ssh_dispatch_run_fatal: Connection from 192.0.2.1 port 22: message authentication code incorrect [preauth]",
        "step CloseConnection - 192.0.2.1 refused",
    ),
    // vsftpd
    ("vsftpd", "[bob] OK LOGIN: Client \"192.0.2.1\"", "Login bob 192.0.2.1 done"),
    ("vsftpd", "[bob] FAIL LOGIN: Client \"::ffff:192.0.2.1\"", "Login bob 192.0.2.1 refused"),
    ("vsftpd", "CONNECT: Client \"192.0.2.1\"", "step OpenConnection - 192.0.2.1 done"),
    ("sshd", "message repeated 3 times: [ Failed password for root from 192.0.2.1 port 22 ssh2]", "Login root 192.0.2.1 refused"),
    // dropbear
    ("dropbear", "Password auth succeeded for 'root' from 192.0.2.1:4711", "Login root 192.0.2.1 done"),
    (
        "dropbear",
        "Pubkey auth succeeded for 'root' with ssh-ed25519 key SHA256:x from 192.0.2.1:4711",
        "Login root 192.0.2.1 done",
    ),
    ("dropbear", "Bad PAM password attempt for 'bob' from 192.0.2.1:4711", "Login bob 192.0.2.1 refused"),
    ("dropbear", "Login attempt for nonexistent user from 192.0.2.1:4711", "Login - 192.0.2.1 refused"),
    ("dropbear", "Login attempt for nonexistent user 'bob' from 192.0.2.1:4711", "Login bob 192.0.2.1 refused"),
    ("dropbear", "Exit before auth from <192.0.2.1:4711>: (user 'bob', 2 fails): Exited normally", "Login bob 192.0.2.1 refused"),
    ("dropbear", "Max auth tries reached - user 'bob' from 192.0.2.1:4711", "Login bob 192.0.2.1 refused"),
    ("dropbear", "Child connection from 192.0.2.1:4711", "step OpenConnection - 192.0.2.1 done"),
    ("dropbear", "Exit (root): Disconnect received", "Logout root - done"),
    // PAM
    (
        "sshd",
        "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.1  user=root",
        "step Authenticate root 192.0.2.1 refused",
    ),
    (
        "sshd",
        "PAM 5 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.1  user=root",
        "step Authenticate root 192.0.2.1 refused",
    ),
    ("sshd", "pam_unix(sshd:auth): check pass; user unknown", "step Authenticate - - refused"),
    ("sshd", "pam_unix(sshd:session): session opened for user alice(uid=1000) by (uid=0)", "step StartSession alice - done"),
    ("sshd", "pam_unix(sshd:session): session closed for user alice", "Logout alice - done"),
    ("CRON", "pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)", "step StartSession root - done"),
    ("CRON", "pam_unix(cron:session): session closed for user root", "step EndSession root - done"),
    ("su", "pam_unix(su:session): session opened for user root(uid=0) by alice(uid=1000)", "SwitchUser alice>root - done"),
    ("su", "pam_unix(su:session): session opened for user nil(uid=1001) by (uid=1000)", "SwitchUser uid 1000>nil - done"),
    ("su-l", "pam_unix(su-l:session): session opened for user postgres by (uid=0)", "SwitchUser uid 0>postgres - done"),
    (
        "su",
        "pam_unix(su:auth): authentication failure; logname=alice uid=1000 euid=0 tty=pts/1 ruser=alice rhost=  user=root",
        "step Authenticate alice>root - refused",
    ),
    (
        "polkit-agent-helper-1",
        "pam_unix(polkit-1:auth): authentication failure; logname= uid=1000 euid=0 tty= ruser=alice rhost=  user=root",
        "Authenticate alice>root - refused",
    ),
    (
        "polkit-agent-helper-1",
        "pam_unix(polkit-1:auth): authentication failure; logname= uid=1000 euid=0 tty= ruser= rhost=  user=root",
        "Authenticate uid 1000>root - refused",
    ),
    (
        "vsftpd",
        "pam_unix(vsftpd:auth): authentication failure; logname= uid=0 euid=0 tty=ftp ruser=mallory rhost=192.0.2.1",
        "Authenticate mallory 192.0.2.1 refused",
    ),
    ("sshd", "pam_sss(sshd:account): Access denied for user bob: 6 (Permission denied)", "step Authenticate bob - refused"),
    ("gdm-password]", "pam_unix(gdm-password:session): session opened for user alice(uid=1000) by (uid=0)", "Login alice - done"),
    ("gdm-password]", "pam_unix(gdm-password:session): session closed for user alice", "Logout alice - done"),
    (
        "gdm-launch-environment]",
        "pam_unix(gdm-launch-environment:session): session opened for user gdm(uid=120) by (uid=0)",
        "step StartSession gdm - done",
    ),
    (
        "sudo",
        "pam_unix(sudo:auth): authentication failure; logname=bob uid=4001 euid=0 tty=/dev/pts/12 ruser=bob rhost=  user=bob",
        "Authenticate bob - refused",
    ),
    // As sudo 1.9.13 wrote it, shortened.
    (
        "sudo",
        r#"@cee:{"sudo":{"accept":{"uuid":"80c3","submit_time":{"seconds":1795500935,"nanoseconds":894891583},"submituser":"alice","command":"/bin/echo","runuser":"root","submitcwd":"/tmp","runuid":0,"runargv":["echo","hi"],"runenv":["X=y"]}}}"#,
        "RunCommand alice>root /bin/echo hi done",
    ),
    (
        "sudo",
        r#"@cee:{"sudo":{"reject":{"reason":"command not allowed","submituser":"bob","command":"/bin/sh","runuser":"root","runargv":["sh"]}}}"#,
        "RunCommand bob>root /bin/sh refused",
    ),
    ("sudo", "pam_tally2(sudo:auth): user bob (4001) tally 6, deny 5", "Authenticate bob - refused"),
    (
        "login",
        "pam_faillock(login:auth): Consecutive login failures for user bob account temporarily locked",
        "Authenticate bob - refused",
    ),
    ("sshd", "pam_sss(sshd:auth): received for user bob: 7 (Authentication failure)", "step Authenticate bob - refused"),
    (
        "sshd",
        "pam_succeed_if(sshd:auth): requirement \"uid >= 1000\" not met by user \"root\"",
        "step Authenticate root - refused",
    ),
    ("cron", "pam_access(cron:account): access denied for user `bob' from `cron'", "Authenticate bob - refused"),
    ("login", "pam_unix(login:account): account bob has expired (account expired)", "Authenticate bob - refused"),
    ("gdm-password", "pam_unix(gdm-password:session): session opened for user alice(uid=1000) by (uid=0)", "Login alice - done"),
    ("passwd", "pam_unix(passwd:chauthtok): password changed for bob", "ChangePassword - bob done"),
    // acting as another
    (
        "sudo",
        "   alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/id -u ; x",
        "RunCommand alice>root /usr/bin/id -u ; x done",
    ),
    (
        "sudo",
        "alice : TTY=pts/0 ; PWD=/ ; USER=root ; GROUP=adm ; ENV=A=b ; TSID=00001 ; COMMAND=/bin/ls",
        "RunCommand alice>root /bin/ls done",
    ),
    (
        "sudo",
        "eve : user NOT in sudoers ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
        "RunCommand eve>root /bin/sh refused",
    ),
    (
        "sudo",
        "eve : 3 incorrect password attempts ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
        "RunCommand eve>root /bin/sh refused",
    ),
    ("sudo", "eve : a password is required ; PWD=/ ; USER=root ; COMMAND=/bin/sh", "RunCommand eve>root /bin/sh refused"),
    // The directory's name is the user's word: it is no reason and no command.
    ("sudo", "eve : TTY=pts/1 ; PWD=/tmp/a ; b ; USER=root ; COMMAND=/bin/sh", "RunCommand eve>root /bin/sh done"),
    (
        "sudo",
        "alice : (command continued) x ; USER=root ; COMMAND=/bin/true",
        "ContinueCommand alice x ; USER=root ; COMMAND=/bin/true done",
    ),
    (
        "sudo",
        "ubuntu : problem with defaults entries ; TTY=pts/0 ; PWD=/home/ubuntu ; USER=root ;",
        "ReportAlert ubuntu problem with defaults entries refused",
    ),
    (
        "sudo",
        r#"@cee:{"sudo":{"alert":{"reason":"problem with defaults entries","submituser":"bob","runuser":"root"}}}"#,
        "ReportAlert bob problem with defaults entries refused",
    ),
    ("su", "FAILED SU (to root) alice on pts/0", "SwitchUser alice>root pts/0 refused"),
    ("su", "(to root) alice on pts/0", "step SwitchUser alice>root pts/0 done"),
    ("su", "BAD SU alice to root on /dev/pts/0", "SwitchUser alice>root /dev/pts/0 refused"),
    ("su", "FAILED su for root by alice", "SwitchUser alice>root - refused"),
    ("su", "+ /dev/pts/0 alice:root", "step SwitchUser alice>root /dev/pts/0 done"),
    ("doas", "alice ran command id -u as root from /home/alice", "RunCommand alice>root id -u done"),
    ("doas", "command not permitted for eve: sh as root", "RunCommand eve>root sh refused"),
    ("doas", "failed auth for eve", "Authenticate eve - refused"),
    (
        "pkexec",
        "alice: Executing command [USER=root] [TTY=/dev/pts/0] [CWD=/home/alice] [COMMAND=/usr/bin/id]",
        "RunCommand alice>root /usr/bin/id done",
    ),
    (
        "pkexec",
        "eve: Error executing command as another user: Not authorized [USER=root] [TTY=unknown] [CWD=/] [COMMAND=/bin/sh]",
        "RunCommand eve>root /bin/sh refused",
    ),
    (
        "polkitd",
        "Operator of unix-session:2 successfully authenticated as unix-user:root to gain TEMPORARY authorization for action org.example.act for unix-process:7:8 [x] (owned by unix-user:alice)",
        "Authorize alice org.example.act done",
    ),
    (
        "polkitd",
        "Operator of unix-session:2 FAILED to authenticate to gain authorization for action org.example.act for system-bus-name:::1.5 [x] (owned by unix-user:alice)",
        "Authorize alice org.example.act refused",
    ),
    ("polkitd", "Registered Authentication Agent for unix-session:2 (system bus name :1.5 [x])", "step StartSession - 2 done"),
    // consoles
    ("login", "pam_unix(login:session): session opened for user parrot(uid=1000) by LOGIN(uid=0)", "Login parrot - done"),
    ("login", "LOGIN ON tty1 BY alice", "step Login alice - done"),
    ("login", "ROOT LOGIN ON tty1", "step Login root - done"),
    ("login", "ROOT LOGIN  on '/dev/tty1'", "step Login root - done"),
    ("login", "'bob' logged in  on '/dev/tty1'", "step Login bob - done"),
    // From elsewhere only the program itself knows where.
    ("login", "pam_unix(remote:session): session opened for user bob(uid=1000) by (uid=0)", "step StartSession bob - done"),
    ("login", "LOGIN ON pts/1 BY bob FROM 192.0.2.1", "Login bob 192.0.2.1 done"),
    (
        "login",
        "FAILED LOGIN (1) on '/dev/pts/1' from '192.0.2.1' FOR 'bob', Authentication failure",
        "Login bob 192.0.2.1 refused",
    ),
    ("login", "FAILED LOGIN 1 FROM (null) FOR bob, Authentication failure", "Login bob - refused"),
    (
        "login",
        "pam_unix(login:auth): authentication failure; logname=LOGIN uid=0 euid=0 tty=/dev/tty1 ruser= rhost=",
        "step Authenticate - - refused",
    ),
    ("login", "FAILED LOGIN 1 FROM tty1 FOR bob, Authentication failure", "Login bob - refused"),
    ("login", "FAILED LOGIN (1) on '/dev/tty1' FOR 'bob', Authentication failure", "Login bob - refused"),
    ("systemd-logind", "New session 5 of user alice.", "StartSession alice 5 done"),
    ("systemd-logind", "New session '5' of user 'alice' with class 'user' and type 'tty'.", "StartSession alice 5 done"),
    ("systemd-logind", "Removed session 5.", "EndSession - 5 done"),
    ("systemd-logind", "System is rebooting.", "StopHost - - done"),
    // accounts
    ("useradd", "new user: name=bob, UID=1001, GID=1001, home=/home/bob, shell=/bin/sh, from=none", "CreateUser - bob done"),
    ("useradd", "failed adding user 'bob', exit code: 9", "CreateUser - bob refused"),
    ("groupadd", "new group: name=bob, GID=1001", "CreateGroup - bob done"),
    ("userdel", "delete user 'bob'", "DeleteUser - bob done"),
    ("userdel", "removed group 'bob' owned by 'bob'", "DeleteGroup - bob done"),
    ("groupdel", "group 'x' removed", "DeleteGroup - x done"),
    ("usermod", "add 'bob' to group 'sudo'", "AddUserToGroup - bob done"),
    ("usermod", "delete 'bob' from group 'sudo'", "RemoveUserFromGroup - bob done"),
    ("gpasswd", "user bob added by root to group sudo", "AddUserToGroup root bob done"),
    ("gpasswd", "user bob removed by root from group sudo", "RemoveUserFromGroup root bob done"),
    ("usermod", "change user 'bob' shell from '/bin/sh' to '/bin/bash'", "ModifyUser - bob done"),
    ("usermod", "change user name 'bob' to 'rob'", "ModifyUser - bob done"),
    ("usermod", "change user 'bob' password", "ChangePassword - bob done"),
    ("usermod", "change user 'bob' password expiration from '1' to '2'", "ModifyUser - bob done"),
    ("gpasswd", "members of group adm set by root to bob,eve", "ModifyGroup root adm done"),
    ("gpasswd", "administrators of group adm set by root to bob", "ModifyGroup root adm done"),
    ("gpasswd", "password of group adm changed by bob", "ModifyGroup bob adm done"),
    ("gpasswd", "password of group adm removed by bob", "ModifyGroup bob adm done"),
    ("gpasswd", "access to group adm restricted by bob in /etc/gshadow", "ModifyGroup bob adm done"),
    ("gpasswd", "eve failed to change password of group adm", "ModifyGroup eve adm refused"),
    ("gpasswd", "eve failed to set the members of group adm to eve in /etc/group", "ModifyGroup eve adm refused"),
    ("newgrp", "user 'bob' (login 'bob' on pts/0) switched to group 'adm'", "SwitchGroup bob adm done"),
    ("newgrp", "user 'bob' (login 'bob' on pts/0) returned to group 'bob'", "step SwitchGroup bob bob done"),
    ("newgrp", "Invalid password for group 'adm' from 'eve'", "SwitchGroup eve adm refused"),
    ("vipw", "file /etc/passwd edited", "ModifyFile - /etc/passwd done"),
    ("groupmod", "group changed in /etc/group (group g/1003, new name: h)", "ModifyGroup - g done"),
    ("usermod", "lock user 'bob' password", "ModifyUser - bob done"),
    ("chage", "changed password expiry for bob", "ModifyUser - bob done"),
    ("chfn", "changed user 'bob' information", "ModifyUser - bob done"),
    ("passwd", "password for 'bob' changed by 'root'", "ChangePassword root bob done"),
    // schedules
    ("CRON", "(root) CMD (run-parts /etc/cron.hourly)", "RunCommand root run-parts /etc/cron.hourly done"),
    ("CRON", "(root) CMD ([1234] run-parts /etc/cron.hourly)", "RunCommand root run-parts /etc/cron.hourly done"),
    ("CROND", "(andyh) CMD (/usr/bin/backup)", "RunCommand andyh /usr/bin/backup done"),
    ("anacron", "Job `cron.daily' started", "RunCommand root cron.daily done"),
    ("cron", "(alice) RELOAD (crontabs/alice)", "step ReloadCrontab - alice done"),
    ("crontab", "(root) REPLACE (alice)", "ModifyCrontab root alice done"),
    ("crontab", "(root) DELETE (alice)", "DeleteCrontab root alice done"),
    ("crontab", "(root) LIST (alice)", "step ReadCrontab root alice done"),
    ("crontab", "(root) BEGIN EDIT (alice)", "step EditCrontab root alice done"),
    ("atd", "Starting job 3 (a0000301b2d3e4) for user 'alice' (1000)", "RunCommand alice 3 done"),
    // software
    ("yum", "Installed: 1:foo-1.0-2.x86_64", "InstallPackage - 1:foo-1.0-2.x86_64 done"),
    ("dnf", "Upgraded: foo-1.0-2.x86_64", "UpdatePackage - foo-1.0-2.x86_64 done"),
    ("yum", "Erased: foo", "RemovePackage - foo done"),
    ("[RPM]", "install bash-5.1.8-2.x86_64: success", "InstallPackage - bash-5.1.8-2.x86_64 done"),
    ("[RPM]", "erase bash-5.1.8-2.x86_64: failure", "RemovePackage - bash-5.1.8-2.x86_64 refused"),
    ("pacman", "upgraded foo (1.0-1 -> 1.1-1)", "UpdatePackage - foo done"),
    (
        "PackageKit",
        "install-packages transaction /42_abc from uid 1000 finished with success after 1234ms",
        "InstallPackage - - done",
    ),
    // the machine
    ("firewalld", "ERROR: NOT_ENABLED: 'ssh' not in 'public'", "ModifyFirewall - firewalld refused"),
    ("systemd-networkd", "eth0: Link UP", "ChangeInterface - eth0 done"),
    (
        "systemd-networkd",
        "eth0: DHCPv4 address 192.0.2.15/24, gateway 192.0.2.2 acquired from 192.0.2.2",
        "ChangeInterface - eth0 done",
    ),
    (
        "NetworkManager",
        "<info>  [1700000000.1234] audit: op=\"connection-update\" uuid=\"u-1\" name=\"eth0\" args=\"ipv4.method\" pid=12 uid=0 result=\"success\"",
        "ModifyNetworkConnection - eth0 done",
    ),
    (
        "NetworkManager",
        "<info>  [1.1] audit: op=\"connection-add\" pid=12 uid=0 result=\"fail\" reason=\"no\"",
        "CreateNetworkConnection - - refused",
    ),
    (
        "NetworkManager",
        "<info>  [1.1] audit: op=\"connection-delete\" name=\"eth0\" pid=12 uid=0 result=\"success\"",
        "DeleteNetworkConnection - eth0 done",
    ),
    (
        "NetworkManager",
        "<info>  [1.1] audit: op=\"connection-activate\" name=\"eth0\" pid=12 uid=0 result=\"success\"",
        "StartNetworkConnection - eth0 done",
    ),
    (
        "NetworkManager",
        "<info>  [1.1] audit: op=\"connection-deactivate\" name=\"eth0\" pid=12 uid=0 result=\"success\"",
        "StopNetworkConnection - eth0 done",
    ),
    (
        "NetworkManager",
        "<info>  [1.1] audit: op=\"networking-control\" arg=\"off\" pid=12 uid=0 result=\"success\"",
        "ModifyNetwork - off done",
    ),
    ("systemd-hostnamed", "Changed static hostname to 'web-1'", "SetHostName - - done"),
    ("systemd-timedated", "Changed time zone to 'Europe/Berlin' (CET).", "SetTime - - done"),
];

/// Messages that are no act.
const NOTHING: &[(&str, &str)] = &[
    ("sshd", "Received signal 15; terminating."),
    ("sshd", "syslogin_perform_logout: logout() returned an error"),
    ("groupadd", "group added to /etc/group: name=x, GID=1002"),
    ("cron", "(CRON) INFO (pidfile fd = 3)"),
    ("sudo", "unable to resolve host web-1"),
    ("sudo", "alice : unable to resolve host web-1"),
    ("CROND", "(root) CMDEND (/usr/bin/backup)"),
    ("vsftpd", "[bob] OK DOWNLOAD: Client \"192.0.2.1\", \"/x\", 7 bytes"),
    ("nginx", "Accepted password for root from 192.0.2.1 port 22 ssh2"),
];

#[test]
fn each_message_says_what_its_program_means() {
    let wrong: Vec<_> =
        EXAMPLES.iter().filter(|(program, message, said)| told(program, message).as_deref() != Some(said)).collect();
    let shown: Vec<_> = wrong.iter().map(|(program, message, said)| (message, said, told(program, message))).collect();
    assert!(wrong.is_empty(), "{shown:#?}");
    for (program, message) in NOTHING {
        assert_eq!(read(program, message), None, "{program}: {message}");
    }
}

#[test]
fn a_user_name_can_not_pose_as_an_address() {
    let said = read("sshd", "Failed password for invalid user x from 192.0.2.9 from 198.51.100.1 port 22 ssh2").unwrap().said;
    assert!(
        matches!(said, Said::LoginFailure { address, user, is_unknown: true, .. } if address == "198.51.100.1" && user == "x from 192.0.2.9")
    );
}

/// A certificate's key id and a hostbased client's name are the peer's words, behind the address that sshd saw.
#[test]
fn what_follows_the_address_can_not_pose_as_one() {
    for tail in [
        "ssh2: RSA-CERT SHA256:x ID eve from 203.0.113.9 port 1 ssh2 (serial 0) CA RSA SHA256:y",
        "ssh2: RSA SHA256:x, client user \"a from 203.0.113.9 port 1\"",
    ] {
        let said = read("sshd", &format!("Accepted publickey for alice from 198.51.100.1 port 22 {tail}")).unwrap().said;
        assert!(matches!(said, Said::Login { address, user, .. } if address == "198.51.100.1" && user == "alice"), "{tail}");
        for unknown in ["", "invalid user "] {
            let said =
                read("sshd", &format!("Failed publickey for {unknown}alice from 198.51.100.1 port 22 {tail}")).unwrap().said;
            assert!(
                matches!(said, Said::LoginFailure { address, user, .. } if address == "198.51.100.1" && user == "alice"),
                "{tail}"
            );
        }
    }
}

/// The documented catalogue has what the examples make, and nothing else.
#[test]
fn the_catalogue_names_what_messages_make() {
    let name = |said: &str| said.trim_start_matches("step ").split(' ').next().unwrap().to_owned();
    let made: std::collections::BTreeSet<String> = EXAMPLES.iter().map(|(_, _, said)| name(said)).collect();
    let units = ["StartUnit", "StopUnit", "ReloadUnit", "ReportUnit", "StartHost"];
    let rows = super::super::catalogue::ROWS.iter().flat_map(|row| row.names.iter());
    let documented: std::collections::BTreeSet<String> =
        rows.filter(|name| !units.contains(name)).map(|name| (*name).to_owned()).collect();
    assert_eq!(made, documented);
}

proptest! {
    #[test]
    fn arbitrary_messages_never_panic(program in 0..PROGRAMS.len(), message in "\\PC{0,80}|(Accepted |Failed |from |for |user |port |pam_unix\\(|'|\\(|\\)|: |=| |\\[|\\]){0,12}") {
        let _either = read(PROGRAMS[program], &message);
        let _pams = is_pams(message.as_bytes());
    }

    /// Every example cut anywhere: nothing panics.
    #[test]
    fn cut_messages_never_panic(example in 0..EXAMPLES.len(), at in 0..200usize, from in 0..40usize) {
        let (program, message, _) = EXAMPLES[example];
        let cut: String = message.chars().skip(from).take(at).collect();
        let _either = read(program, &cut);
    }
}
