//! Containers: networks, limits, security, and what is said about them.

use super::*;

messages! {
    NETWORK_INFO {
        3 groups: many string;
        4 labels: message LABELS;
        5 ip_addresses: many message NETWORK_INFO_IP_ADDRESS;
        6 name: string;
        7 port_mappings: many message NETWORK_INFO_PORT_MAPPING;
    }
    NETWORK_INFO_IP_ADDRESS {
        1 protocol: enum NETWORK_INFO_PROTOCOL;
        2 ip_address: string;
    }
    NETWORK_INFO_PORT_MAPPING {
        1 host_port: uint32;
        2 container_port: uint32;
        3 protocol: string;
    }
    CAPABILITY_INFO {
        1 capabilities: many enum CAPABILITY_INFO_CAPABILITY;
    }
    SECCOMP_INFO {
        1 profile_name: string;
        2 unconfined: bool;
    }
    LINUX_INFO {
        1 capability_info: message CAPABILITY_INFO;
        2 bounding_capabilities: message CAPABILITY_INFO;
        3 effective_capabilities: message CAPABILITY_INFO;
        4 share_pid_namespace: bool;
        5 seccomp: message SECCOMP_INFO;
        6 ipc_mode: enum LINUX_INFO_IPC_MODE;
        7 shm_size: uint32;
        8 share_cgroups: bool;
    }
    R_LIMIT_INFO {
        1 rlimits: many message R_LIMIT_INFO_R_LIMIT;
    }
    R_LIMIT_INFO_R_LIMIT {
        1 type: enum R_LIMIT_INFO_R_LIMIT_TYPE;
        2 hard: uint64;
        3 soft: uint64;
    }
    TTY_INFO {
        1 window_size: message TTY_INFO_WINDOW_SIZE;
    }
    TTY_INFO_WINDOW_SIZE {
        1 rows: uint32;
        2 columns: uint32;
    }
    CONTAINER_INFO {
        1 type: enum CONTAINER_INFO_TYPE;
        2 volumes: many message VOLUME;
        3 docker: message CONTAINER_INFO_DOCKER_INFO;
        4 hostname: string;
        5 mesos: message CONTAINER_INFO_MESOS_INFO;
        7 network_infos: many message NETWORK_INFO;
        8 linux_info: message LINUX_INFO;
        9 rlimit_info: message R_LIMIT_INFO;
        10 tty_info: message TTY_INFO;
    }
    CONTAINER_INFO_DOCKER_INFO {
        1 image: string;
        2 network: enum CONTAINER_INFO_DOCKER_INFO_NETWORK;
        3 port_mappings: many message CONTAINER_INFO_DOCKER_INFO_PORT_MAPPING;
        4 privileged: bool;
        5 parameters: many message PARAMETER;
        6 force_pull_image: bool;
        7 volume_driver: string;
    }
    CONTAINER_INFO_DOCKER_INFO_PORT_MAPPING {
        1 host_port: uint32;
        2 container_port: uint32;
        3 protocol: string;
    }
    CONTAINER_INFO_MESOS_INFO {
        1 image: message IMAGE;
    }
    CONTAINER_STATUS {
        1 network_infos: many message NETWORK_INFO;
        2 cgroup_info: message CGROUP_INFO;
        3 executor_pid: uint32;
        4 container_id: message CONTAINER_ID;
    }
    CGROUP_INFO {
        1 net_cls: message CGROUP_INFO_NET_CLS;
    }
    CGROUP_INFO_NET_CLS {
        1 classid: uint32;
    }
}

enums! {
    NETWORK_INFO_PROTOCOL {
        IPv4 = 1;
        IPv6 = 2;
    }
    CAPABILITY_INFO_CAPABILITY {
        UNKNOWN = 0;
        CHOWN = 1000;
        DAC_OVERRIDE = 1001;
        DAC_READ_SEARCH = 1002;
        FOWNER = 1003;
        FSETID = 1004;
        KILL = 1005;
        SETGID = 1006;
        SETUID = 1007;
        SETPCAP = 1008;
        LINUX_IMMUTABLE = 1009;
        NET_BIND_SERVICE = 1010;
        NET_BROADCAST = 1011;
        NET_ADMIN = 1012;
        NET_RAW = 1013;
        IPC_LOCK = 1014;
        IPC_OWNER = 1015;
        SYS_MODULE = 1016;
        SYS_RAWIO = 1017;
        SYS_CHROOT = 1018;
        SYS_PTRACE = 1019;
        SYS_PACCT = 1020;
        SYS_ADMIN = 1021;
        SYS_BOOT = 1022;
        SYS_NICE = 1023;
        SYS_RESOURCE = 1024;
        SYS_TIME = 1025;
        SYS_TTY_CONFIG = 1026;
        MKNOD = 1027;
        LEASE = 1028;
        AUDIT_WRITE = 1029;
        AUDIT_CONTROL = 1030;
        SETFCAP = 1031;
        MAC_OVERRIDE = 1032;
        MAC_ADMIN = 1033;
        SYSLOG = 1034;
        WAKE_ALARM = 1035;
        BLOCK_SUSPEND = 1036;
        AUDIT_READ = 1037;
        PERFMON = 1038;
        BPF = 1039;
        CHECKPOINT_RESTORE = 1040;
    }
    LINUX_INFO_IPC_MODE {
        UNKNOWN = 0;
        PRIVATE = 1;
        SHARE_PARENT = 2;
    }
    R_LIMIT_INFO_R_LIMIT_TYPE {
        UNKNOWN = 0;
        RLMT_AS = 1;
        RLMT_CORE = 2;
        RLMT_CPU = 3;
        RLMT_DATA = 4;
        RLMT_FSIZE = 5;
        RLMT_LOCKS = 6;
        RLMT_MEMLOCK = 7;
        RLMT_MSGQUEUE = 8;
        RLMT_NICE = 9;
        RLMT_NOFILE = 10;
        RLMT_NPROC = 11;
        RLMT_RSS = 12;
        RLMT_RTPRIO = 13;
        RLMT_RTTIME = 14;
        RLMT_SIGPENDING = 15;
        RLMT_STACK = 16;
    }
    CONTAINER_INFO_TYPE {
        DOCKER = 1;
        MESOS = 2;
    }
    CONTAINER_INFO_DOCKER_INFO_NETWORK {
        HOST = 1;
        BRIDGE = 2;
        NONE = 3;
        USER = 4;
    }
}
