//! Names of the kernel's error numbers. Source: asm-generic/errno-base.h and errno.h, which x86 and ARM share.

/// From 1 on, `-` where there is none.
const NAMES: &str = "EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST \
    EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM \
    ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG \
    EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET \
    ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG \
    ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE \
    EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE \
    EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN \
    ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL \
    EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD \
    ENOTRECOVERABLE ERFKILL EHWPOISON";

/// `EACCES` of 13.
pub fn name(errno: u32) -> Option<&'static str> {
    let index = usize::try_from(errno.checked_sub(1)?).ok()?;
    NAMES.split(' ').nth(index).filter(|name| *name != "-")
}

/// CloudTrail's errorCode: refusals are `AccessDenied`, the rest has its own name.
pub fn error_code(errno: u32) -> String {
    match name(errno) {
        Some("EACCES" | "EPERM") => "AccessDenied".to_owned(),
        Some(name) => name.to_owned(),
        None => format!("errno {errno}"),
    }
}

/// The system's words for it.
pub fn message(errno: u32) -> String {
    let text = std::io::Error::from_raw_os_error(i32::try_from(errno).unwrap_or(0)).to_string();
    match text.rsplit_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_access_denied() {
        assert_eq!(
            (error_code(13), error_code(1), error_code(2)),
            ("AccessDenied".into(), "AccessDenied".into(), "ENOENT".into())
        );
        assert_eq!((name(115), name(133), name(0), name(9999)), (Some("EINPROGRESS"), Some("EHWPOISON"), None, None));
        assert_eq!(message(2), "No such file or directory");
    }
}
