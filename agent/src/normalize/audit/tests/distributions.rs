//! What other distributions, kernels and settings write of the same acts. `rhel.log` is made after the words of shadow
//! as RHEL builds it and as its authors now write it.

use super::*;

/// Each record's event and the thing it is about.
fn changes(records: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let of = |record: &Value| {
        let parameters = &record["requestParameters"];
        let name = parameters["userName"].as_str().or(parameters["groupName"].as_str()).unwrap_or("-");
        format!("{} {name} {}", text(&record["eventName"]), text(&parameters["group"]))
    };
    records.iter().map(of).collect()
}

/// The acts that a text of audit.log tells.
fn acts(log: &str) -> Vec<Value> {
    decode(log).into_iter().filter(|record| !is_step(record)).collect()
}

/// The only act that it tells.
fn act(log: &str) -> Value {
    let mut acts = acts(log);
    assert_eq!(acts.len(), 1, "{acts:#?}");
    acts.remove(0)
}

#[test]
fn shadow_of_rhel_tells_each_change_once_with_its_group() {
    assert_eq!(
        changes(&records("rhel")),
        [
            "CreateGroup 1105 -",
            "CreateUser iam2 -",
            "AddUserToGroup iam2 issm",
            "AddUserToGroup iam2 wheel",
            "AddUserToGroup iam2 adm",
            "RemoveUserFromGroup iam2 adm",
            "ModifyUser iam2 -",
            "ChangePassword iam2 -",
            "ModifyGroup issm issm",
            "ModifyGroup issm issm",
            "DeleteGroup issm -",
        ]
    );
}

/// Debian's usermod names the user, not the group: each group is a record of its own.
#[test]
fn a_membership_without_its_group_is_one_all_the_same() {
    let line = |serial: u32, op: &str| {
        format!(
            "type=USER_CHAUTHTOK msg=audit(100.001:{serial}): pid=9 uid=0 auid=1001 ses=3 msg='op={op} acct=\"hcbob\" exe=\"/usr/sbin/usermod\" res=success'\n"
        )
    };
    let log = [line(1, "adding user to group"), line(2, "adding user to group"), line(3, "adding user to shadow group")].concat();
    assert_eq!(changes(&acts(&log)), ["AddUserToGroup hcbob -", "AddUserToGroup hcbob -"]);
    assert_eq!(changes(&acts(&line(4, "removing user from group"))), ["RemoveUserFromGroup hcbob -"]);
    let log = line(5, "adding user to group").replace("USER_CHAUTHTOK", "ADD_USER").replace("usermod", "useradd");
    assert_eq!(changes(&acts(&log)), ["AddUserToGroup hcbob -"]);
}

#[test]
fn what_auditd_did_not_know_is_no_name() {
    let added = act(
        "type=ADD_USER msg=audit(100.001:1): pid=9 uid=0 auid=4294967295 ses=4294967295 msg='op=adding user id=1002 exe=\"/usr/sbin/useradd\" res=success'\u{1d}UID=\"root\" AUID=\"unset\" ID=\"unknown(1002)\"\n",
    );
    assert_eq!(added["requestParameters"]["userName"], "hcbob", "this host's files know it");
    let stranger = act(
        "type=ADD_USER msg=audit(100.001:1): pid=9 uid=0 auid=4294967295 ses=4294967295 msg='op=adding user id=4711 exe=\"/usr/sbin/useradd\" res=success'\u{1d}UID=\"root\" AUID=\"unset\" ID=\"unknown(4711)\"\n",
    );
    assert_eq!(stranger["requestParameters"]["userName"], "4711");
    let started = act(
        "type=SYSCALL msg=audit(100.001:2): arch=c000003e syscall=59 success=yes exit=0 a0=0 a1=0 a2=0 a3=0 items=1 ppid=1 pid=9 auid=1000680000 uid=1000680000 gid=0 euid=1000680000 ses=5 comm=\"x\" exe=\"/x\" key=(null)\u{1d}ARCH=x86_64 SYSCALL=execve AUID=\"unknown(1000680000)\" UID=\"unknown(1000680000)\" EUID=\"unknown(1000680000)\"\ntype=PATH msg=audit(100.001:2): item=0 name=\"/x\" inode=4 dev=08:01 mode=0100755 ouid=1000680000 ogid=0 rdev=00:00 nametype=NORMAL\u{1d}OUID=\"unknown(1000680000)\" OGID=\"root\"\ntype=EOE msg=audit(100.001:2): \n",
    );
    assert_eq!(started["userIdentity"]["userName"], "1000680000");
    assert_eq!(started["requestParameters"]["files"][0]["owner"], "1000680000");
    let refused = act(
        "type=USER_LOGIN msg=audit(100.001:3): pid=9 uid=0 auid=4294967295 ses=4294967295 msg='op=login id=1001 exe=\"/usr/sbin/sshd\" hostname=? addr=192.0.2.7 terminal=ssh res=success'\u{1d}UID=\"root\" AUID=\"unset\" ID=\"unknown(1001)\"\n",
    );
    assert_eq!(refused["userIdentity"]["userName"], "hcalice");
}

/// util-linux's login tells the account of a refusal by its id; PAM told it by name.
#[test]
fn a_login_refused_by_its_id_is_the_attempt_that_pam_told() {
    let log = "type=USER_AUTH msg=audit(100.001:1): pid=7 uid=0 auid=4294967295 ses=4294967295 msg='op=PAM:authentication grantors=? acct=\"hcalice\" exe=\"/usr/bin/login\" hostname=? addr=? terminal=/dev/tty1 res=failed'\ntype=USER_LOGIN msg=audit(103.001:2): pid=7 uid=0 auid=4294967295 ses=4294967295 msg='op=login id=1001 exe=\"/usr/bin/login\" hostname=? addr=? terminal=/dev/tty1 res=failed'\n";
    assert_eq!(story(&acts(log)), ["Login IAMUser 1001 web-1 AccessDenied"]);
    assert_eq!(story(&acts(log.lines().nth(1).unwrap())), ["Login IAMUser 1001 web-1 AccessDenied"]);
    // An id without a name here: still the attempt of that process.
    let unnamed = log.replace("hcalice", "carol").replace("id=1001", "id=2002");
    assert_eq!(acts(&unnamed).len(), 1);
    let nobody = log.lines().nth(1).unwrap().replace("id=1001", "id=4294967295");
    assert_eq!(story(&acts(&nobody)), ["Login Unknown - web-1 AccessDenied"]);
}

#[test]
fn a_module_taken_out_is_told_as_that() {
    let event = |number: u32, name: &str| {
        format!(
            "type=SYSCALL msg=audit(100.001:1): arch=c000003e syscall={number} success=yes exit=0 a0=0 a1=0 a2=0 a3=0 items=0 ppid=1 pid=9 auid=1001 uid=0 gid=0 euid=0 ses=3 comm=\"{name}\" exe=\"/usr/bin/kmod\" key=(null)\ntype=KERN_MODULE msg=audit(100.001:1): name=\"dummy\"\ntype=EOE msg=audit(100.001:1): \n"
        )
    };
    let told = act(&event(176, "rmmod"));
    assert_eq!(told["eventName"], "UnloadKernelModule");
    assert_eq!(told["resources"][0]["ARN"], "arn:aws:host:dc-local-1:111122223333:web-1/module/dummy");
    assert_eq!(act(&event(313, "modprobe"))["eventName"], "LoadKernelModule");
}

#[test]
fn what_a_program_says_of_others_is_kept_beside_what_the_kernel_says_of_it() {
    let locked = act(
        "type=RESP_ACCT_LOCK msg=audit(100.001:1): pid=9 uid=0 auid=4294967295 ses=4294967295 msg='pam_faillock uid=1001  exe=\"/usr/sbin/sshd\" hostname=? addr=? terminal=ssh res=success'\n",
    );
    assert_eq!(locked["eventName"], "RespondToAnomaly");
    assert_eq!(locked["requestParameters"]["details"]["uid"], "1001");
    assert_eq!(locked["resources"][0]["ARN"], "arn:aws:host:dc-local-1:111122223333:web-1/user/hcalice");
    let refused = act(
        "type=USER_AVC msg=audit(100.001:2): pid=1 uid=0 auid=4294967295 ses=4294967295 subj=system_u:system_r:init_t:s0 msg='avc:  denied  { start } for auid=1001 uid=1001 gid=1001 path=\"/usr/lib/systemd/system/x.service\" cmdline=\"systemctl start x\" scontext=u:r:t:s0 tcontext=u:r:t:s0 tclass=service permissive=0  exe=\"/usr/lib/systemd/systemd\" sauid=0 hostname=? addr=? terminal=?'\n",
    );
    assert_eq!(refused["requestParameters"]["details"]["auid"], "1001");
}

#[test]
fn what_a_permissive_policy_let_pass_was_not_denied() {
    let avc = |permissive: u8| {
        act(&format!(
            "type=AVC msg=audit(100.001:8): avc:  denied  {{ read }} for  pid=9 comm=\"x\" name=\"shadow\" scontext=a:b:c:s0 tcontext=a:b:c:s0 tclass=file permissive={permissive}\n"
        ))
    };
    assert_eq!((&avc(0)["eventName"], &avc(0)["errorCode"]), (&"DenyAccess".into(), &"AccessDenied".into()));
    assert_eq!((&avc(1)["eventName"], &avc(1)["errorCode"]), (&"ReportAccess".into(), &Value::Null));
}

#[test]
fn a_link_that_the_kernel_would_not_follow_is_a_denial() {
    let told = act(
        "type=ANOM_LINK msg=audit(100.001:8): op=follow_link ppid=1 pid=9 auid=1001 uid=1001 gid=1001 euid=1001 suid=1001 fsuid=1001 egid=1001 sgid=1001 fsgid=1001 tty=pts0 ses=3 comm=\"cat\" exe=\"/usr/bin/cat\" res=0\n",
    );
    assert_eq!((&told["eventName"], &told["errorCode"]), (&"DenyAccess".into(), &"AccessDenied".into()));
}

#[test]
fn a_filtered_call_is_named() {
    let told = act(
        "type=SECCOMP msg=audit(100.001:8): auid=1001 uid=1001 gid=1001 ses=3 pid=9 comm=\"sshd\" exe=\"/usr/sbin/sshd\" sig=31 arch=40000003 syscall=132 compat=0 ip=0xb7670aac code=0x0\n",
    );
    assert_eq!(
        (&told["requestParameters"]["systemCall"], &told["requestParameters"]["arch"]),
        (&"getpgid".into(), &"i386".into())
    );
}

/// sudo of RHEL 6 did not name itself.
#[test]
fn sudo_is_known_by_its_record() {
    let told = act(
        "type=USER_CMD msg=audit(100.001:8): user pid=3027 uid=1001 auid=1001 ses=11988 msg='cwd=\"/\" cmd=2F62696E2F6964 terminal=? res=success'\n",
    );
    assert_eq!((&told["eventSource"], &told["userAgent"]), (&"sudo.linux".into(), &"sudo".into()));
}

#[test]
fn programs_are_known_under_their_other_names() {
    assert_eq!(view::program_name("/usr/lib/systemd/systemd-executor"), "systemd");
    assert_eq!(view::program_name("/usr/sbin/crond"), "cron");
    let told = act(
        "type=DAEMON_START msg=audit(100.001:8): op=start ver=3.0.7 format=raw kernel=6.1 auid=4294967295 pid=9 uid=0 ses=4294967295 res=success\n",
    );
    assert_eq!((&told["eventSource"], &told["userAgent"]), (&"auditd.linux".into(), &"auditd".into()));
}

/// pam_loginuid gives cron's jobs a login user, though nobody logged in.
#[test]
fn a_cron_job_is_the_daemons_not_root_who_logged_in() {
    let job = "type=USER_ACCT msg=audit(100.001:1): pid=50 uid=0 auid=4294967295 ses=4294967295 msg='op=PAM:accounting grantors=pam_permit acct=\"root\" exe=\"/usr/sbin/cron\" hostname=? addr=? terminal=cron res=success'\ntype=LOGIN msg=audit(100.002:2): pid=50 uid=0 old-auid=4294967295 auid=0 tty=(none) old-ses=4294967295 ses=9 res=1\ntype=EOE msg=audit(100.002:2): \ntype=USER_START msg=audit(100.003:3): pid=50 uid=0 auid=0 ses=9 msg='op=PAM:session_open grantors=pam_loginuid acct=\"root\" exe=\"/usr/sbin/cron\" hostname=? addr=? terminal=cron res=success'\ntype=SYSCALL msg=audit(100.004:4): arch=c000003e syscall=59 success=yes exit=0 a0=0 a1=0 a2=0 a3=0 items=1 ppid=50 pid=51 auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 ses=9 comm=\"sh\" exe=\"/usr/bin/dash\" key=(null)\ntype=EOE msg=audit(100.004:4): \n";
    let records = acts(job);
    let execution = records.iter().find(|record| record["eventName"] == "ExecuteProgram").unwrap();
    assert_eq!(execution["userIdentity"]["type"], "AWSService");
    assert_eq!(execution["userIdentity"]["invokedBy"], "cron.linux");
    assert_eq!(execution["additionalEventData"]["edgetrail"]["login"]["program"], "cron");
    // A job that becomes another user is still the one whose table it stands in.
    let others = job.replace("auid=0 ", "auid=1001 ").replace("acct=\"root\"", "acct=\"hcalice\"");
    let records = acts(&others);
    let execution = records.iter().find(|record| record["eventName"] == "ExecuteProgram").unwrap();
    assert_eq!(execution["userIdentity"]["principalId"], "0:hcalice");
}

#[test]
fn the_processes_queues_and_mappings_of_a_call_are_in_its_record() {
    let event = |number: u32, more: &str| {
        act(&format!(
            "type=SYSCALL msg=audit(100.001:1): arch=c000003e syscall={number} success=yes exit=0 a0=53f a1=9 a2=0 a3=0 items=0 ppid=1 pid=9 auid=1001 uid=1001 gid=0 euid=1001 ses=3 comm=\"x\" exe=\"/x\" key=(null)\n{more}\ntype=EOE msg=audit(100.001:1): \n"
        ))
    };
    let killed = event(62, "type=OBJ_PID msg=audit(100.001:1): opid=1343 oauid=1001 ouid=1002 oses=3 obj=u:r:t:s0 ocomm=\"top\"");
    let process = &killed["requestParameters"]["processes"][0];
    assert_eq!((&process["pid"], &process["program"], &process["user"]), (&1343.into(), &"top".into(), &"hcbob".into()));
    assert_eq!((&process["loginUser"], &process["session"]), (&"hcalice".into(), &3.into()));
    assert_eq!(killed["resources"][0]["ARN"], "arn:aws:host:dc-local-1:111122223333:web-1/process/1343");
    let mapped = event(9, "type=MMAP msg=audit(100.001:1): fd=3 flags=0x2");
    assert_eq!(mapped["requestParameters"]["mapping"]["fd"], "3");
    let queue = event(
        240,
        "type=MQ_OPEN msg=audit(100.001:1): oflag=0x42 mode=0600 mq_flags=0x0 mq_maxmsg=10 mq_msgsize=8192 mq_curmsgs=0",
    );
    assert_eq!(queue["requestParameters"]["messageQueue"]["mq_maxmsg"], "10");
    let shared = event(
        31,
        "type=IPC msg=audit(100.001:1): ouid=0 ogid=0 mode=0600\ntype=IPC_SET_PERM msg=audit(100.001:1): qbytes=0 ouid=1002 ogid=1002 mode=0666",
    );
    assert_eq!(
        (&shared["requestParameters"]["ipc"]["mode"], &shared["requestParameters"]["ipcSet"]["mode"]),
        (&"0600".into(), &"0666".into())
    );
    let pipe = event(22, "type=FD_PAIR msg=audit(100.001:1): fd0=3 fd1=4");
    assert_eq!(pipe["requestParameters"]["descriptors"]["fd1"], "4");
}

/// Written by whoever has no business there: an administrative act, kept whatever `data` says.
#[test]
fn a_hit_of_a_managed_file_rule_administers_the_host() {
    let hit = |key: &str, exe: &str, syscall: u32, a1: &str| {
        act(&format!(
            "type=SYSCALL msg=audit(100.001:1): arch=c000003e syscall={syscall} success=yes exit=0 a0=1 a1={a1} a2={a1} a3=0 items=1 ppid=1 pid=9 auid=1001 uid=0 gid=0 euid=0 ses=3 comm=\"x\" exe=\"{exe}\" key=\"{key}\"\ntype=PATH msg=audit(100.001:1): item=0 name=\"/etc/sudoers\" inode=4 dev=08:01 mode=0100440 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL\ntype=EOE msg=audit(100.001:1): \n"
        ))
    };
    let class = |record: &Value| (record["eventName"].as_str().unwrap().to_owned(), record["managementEvent"] == true);
    assert_eq!(class(&hit("edgetrail-sudoers", "/usr/bin/chmod", 90, "1b6")), ("ChangeFileMode".to_owned(), true));
    assert_eq!(class(&hit("edgetrail-identity", "/usr/bin/vi", 257, "1")), ("ModifyFile".to_owned(), true));
    assert_eq!(class(&hit("mine", "/usr/bin/chmod", 90, "1b6")), ("ChangeFileMode".to_owned(), false));
    assert_eq!(class(&hit("edgetrail-privilege", "/usr/bin/id", 59, "0")), ("ExecuteProgram".to_owned(), false));
    let steps = decode(
        "type=SYSCALL msg=audit(100.001:1): arch=c000003e syscall=257 success=yes exit=0 a0=1 a1=0 a2=2 a3=0 items=1 ppid=1 pid=9 auid=1001 uid=0 gid=0 euid=0 ses=3 comm=\"useradd\" exe=\"/usr/sbin/useradd\" key=\"edgetrail-identity\"\ntype=EOE msg=audit(100.001:1): \n",
    );
    assert!(is_step(&steps[0]) && steps[0]["managementEvent"] == false, "useradd tells it itself");
    assert!(!is_step(
        &decode(
            "type=SYSCALL msg=audit(100.001:1): arch=c000003e syscall=257 success=yes exit=0 a0=1 a1=0 a2=2 a3=0 items=1 ppid=1 pid=9 auid=1001 uid=0 gid=0 euid=0 ses=3 comm=\"useradd\" exe=\"/tmp/useradd\" key=\"edgetrail-identity\"\ntype=EOE msg=audit(100.001:1): \n",
        )[0]
    ));
}

/// Each name of the account and people tables is made of some fixture, and no other is.
#[test]
fn the_tables_of_people_and_accounts_are_what_the_decoders_give() {
    let from_kernel: Vec<&str> = catalogue::CALLS
        .iter()
        .map(|(_, name, _)| *name)
        .chain(records::RECORDS.iter().map(|(_, _, name, _)| *name))
        .chain(records::BY_FIELD.iter().map(|(_, name, _)| *name))
        .chain(catalogue::ADDRESS_CALLS.iter().flat_map(|(_, network, local)| [*network, *local]))
        .chain([catalogue::OTHER_CALL.0, "ModifyFile", "ReadFile", "CreateFile"])
        .collect();
    let more = [
        "type=SERVICE_START msg=audit(1.001:1): pid=1 uid=0 auid=4294967295 ses=4294967295 msg='unit=x comm=\"systemd\" exe=\"/usr/lib/systemd/systemd\" res=success'",
        "type=SERVICE_STOP msg=audit(1.001:2): pid=1 uid=0 auid=4294967295 ses=4294967295 msg='unit=x comm=\"systemd\" exe=\"/usr/lib/systemd/systemd\" res=success'",
        "type=ACCT_LOCK msg=audit(1.001:3): pid=2 uid=0 auid=0 ses=1 msg='op=locked-password id=1001 exe=\"/usr/bin/passwd\" res=success'",
        "type=ACCT_UNLOCK msg=audit(1.001:4): pid=3 uid=0 auid=0 ses=1 msg='op=unlocked-password id=1001 exe=\"/usr/bin/passwd\" res=success'",
        "type=USER_START msg=audit(1.001:5): pid=4 uid=0 auid=0 ses=1 msg='op=PAM:session_open acct=\"root\" exe=\"/usr/sbin/atd\" res=success'",
        "type=USER_END msg=audit(1.001:6): pid=4 uid=0 auid=0 ses=1 msg='op=PAM:session_close acct=\"root\" exe=\"/usr/sbin/atd\" res=success'",
        "type=USER_AUTH msg=audit(1.001:7): pid=5 uid=0 auid=0 ses=1 msg='op=PAM:authentication acct=\"root\" exe=\"/usr/bin/x\" res=failed'",
        "type=CRYPTO_SESSION msg=audit(1.001:8): pid=6 uid=0 auid=0 ses=1 msg='op=start exe=\"/usr/sbin/sshd\" res=success'",
        "type=CRYPTO_KEY_USER msg=audit(1.001:9): pid=6 uid=0 auid=0 ses=1 msg='op=destroy exe=\"/usr/sbin/sshd\" res=success'",
        "type=USER_ACCT msg=audit(1.001:10): pid=7 uid=0 auid=0 ses=1 msg='op=user hcbob removed by root from group adm acct=\"adm\" exe=\"/usr/bin/gpasswd\" res=success'",
        "type=USER_LOGOUT msg=audit(1.001:11): pid=8 uid=0 auid=1001 ses=77 msg='op=login id=1001 exe=\"/usr/sbin/sshd\" res=success'",
        "type=USER_LOGOUT msg=audit(1.001:12): pid=8 uid=0 auid=1001 ses=77 msg='op=login id=1001 exe=\"/usr/sbin/sshd\" res=success'",
    ];
    let mut all: Vec<Value> = ["login", "refused", "su", "accounts", "rhel", "rules"].into_iter().flat_map(all_records).collect();
    all.extend(decode(&more.join("\n")));
    let rows = |rows: &[catalogue::Row]| rows.iter().flat_map(|row| row.names.to_vec()).collect::<Vec<_>>();
    let acts: Vec<&str> = [rows(catalogue::PEOPLE), rows(catalogue::ACCOUNTS)].concat();
    let steps: Vec<&str> = catalogue::STEPS.iter().map(|(name, _)| *name).collect();
    for record in &all {
        let name = record["eventName"].as_str().unwrap();
        let known = if is_step(record) { acts.contains(&name) || steps.contains(&name) } else { acts.contains(&name) };
        assert!(known || from_kernel.contains(&name), "{name} is in no table: {record:#}");
    }
    let given = |name: &str, step: bool| all.iter().any(|record| record["eventName"] == name && is_step(record) == step);
    for name in acts {
        assert!(given(name, false), "{name} is in a table, and nothing gives it");
    }
    for name in steps {
        assert!(given(name, true), "the step {name} is in the table, and nothing gives it");
    }
}
