//! Resources: amounts, reservations, disks.

use super::*;

messages! {
    RESOURCE {
        1 name: string;
        2 type: enum VALUE_TYPE;
        3 scalar: message VALUE_SCALAR;
        4 ranges: message VALUE_RANGES;
        5 set: message VALUE_SET;
        6 role: string;
        7 disk: message RESOURCE_DISK_INFO;
        8 reservation: message RESOURCE_RESERVATION_INFO;
        9 revocable: message RESOURCE_REVOCABLE_INFO;
        10 shared: message RESOURCE_SHARED_INFO;
        11 allocation_info: message RESOURCE_ALLOCATION_INFO;
        12 provider_id: message RESOURCE_PROVIDER_ID;
        13 reservations: many message RESOURCE_RESERVATION_INFO;
    }
    RESOURCE_ALLOCATION_INFO {
        1 role: string;
    }
    RESOURCE_RESERVATION_INFO {
        1 principal: string;
        2 labels: message LABELS;
        3 role: string;
        4 type: enum RESOURCE_RESERVATION_INFO_TYPE;
    }
    RESOURCE_DISK_INFO {
        1 persistence: message RESOURCE_DISK_INFO_PERSISTENCE;
        2 volume: message VOLUME;
        3 source: message RESOURCE_DISK_INFO_SOURCE;
    }
    RESOURCE_DISK_INFO_PERSISTENCE {
        1 id: string;
        2 principal: string;
    }
    RESOURCE_DISK_INFO_SOURCE {
        1 type: enum RESOURCE_DISK_INFO_SOURCE_TYPE;
        2 path: message RESOURCE_DISK_INFO_SOURCE_PATH;
        3 mount: message RESOURCE_DISK_INFO_SOURCE_MOUNT;
        4 id: string;
        5 metadata: message LABELS;
        6 profile: string;
        7 vendor: string;
    }
    RESOURCE_DISK_INFO_SOURCE_PATH {
        1 root: string;
    }
    RESOURCE_DISK_INFO_SOURCE_MOUNT {
        1 root: string;
    }
    RESOURCE_REVOCABLE_INFO {}
    RESOURCE_SHARED_INFO {}
}

enums! {
    RESOURCE_RESERVATION_INFO_TYPE {
        UNKNOWN = 0;
        STATIC = 1;
        DYNAMIC = 2;
    }
    RESOURCE_DISK_INFO_SOURCE_TYPE {
        UNKNOWN = 0;
        PATH = 1;
        MOUNT = 2;
        BLOCK = 3;
        RAW = 4;
    }
}
