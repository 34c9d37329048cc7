//! Offers, what is done with them, and what became of it.

use super::*;

messages! {
    OFFER {
        1 id: message OFFER_ID;
        2 framework_id: message FRAMEWORK_ID;
        3 agent_id: message AGENT_ID;
        4 hostname: string;
        5 resources: many message RESOURCE;
        6 executor_ids: many message EXECUTOR_ID;
        7 attributes: many message ATTRIBUTE;
        8 url: message URL;
        9 unavailability: message UNAVAILABILITY;
        10 allocation_info: message RESOURCE_ALLOCATION_INFO;
        11 domain: message DOMAIN_INFO;
    }
    OFFER_OPERATION {
        1 type: enum OFFER_OPERATION_TYPE;
        2 launch: message OFFER_OPERATION_LAUNCH;
        3 reserve: message OFFER_OPERATION_RESERVE;
        4 unreserve: message OFFER_OPERATION_UNRESERVE;
        5 create: message OFFER_OPERATION_CREATE;
        6 destroy: message OFFER_OPERATION_DESTROY;
        7 launch_group: message OFFER_OPERATION_LAUNCH_GROUP;
        12 id: message OPERATION_ID;
        13 grow_volume: message OFFER_OPERATION_GROW_VOLUME;
        14 shrink_volume: message OFFER_OPERATION_SHRINK_VOLUME;
        15 create_disk: message OFFER_OPERATION_CREATE_DISK;
        16 destroy_disk: message OFFER_OPERATION_DESTROY_DISK;
    }
    OFFER_OPERATION_LAUNCH {
        1 task_infos: many message TASK_INFO;
    }
    OFFER_OPERATION_LAUNCH_GROUP {
        1 executor: message EXECUTOR_INFO;
        2 task_group: message TASK_GROUP_INFO;
    }
    OFFER_OPERATION_RESERVE {
        1 resources: many message RESOURCE;
        2 source: many message RESOURCE;
    }
    OFFER_OPERATION_UNRESERVE {
        1 resources: many message RESOURCE;
    }
    OFFER_OPERATION_CREATE {
        1 volumes: many message RESOURCE;
    }
    OFFER_OPERATION_DESTROY {
        1 volumes: many message RESOURCE;
    }
    OFFER_OPERATION_GROW_VOLUME {
        1 volume: message RESOURCE;
        2 addition: message RESOURCE;
    }
    OFFER_OPERATION_SHRINK_VOLUME {
        1 volume: message RESOURCE;
        2 subtract: message VALUE_SCALAR;
    }
    OFFER_OPERATION_CREATE_DISK {
        1 source: message RESOURCE;
        2 target_type: enum RESOURCE_DISK_INFO_SOURCE_TYPE;
        3 target_profile: string;
    }
    OFFER_OPERATION_DESTROY_DISK {
        1 source: message RESOURCE;
    }
    INVERSE_OFFER {
        1 id: message OFFER_ID;
        2 url: message URL;
        3 framework_id: message FRAMEWORK_ID;
        4 agent_id: message AGENT_ID;
        5 unavailability: message UNAVAILABILITY;
        6 resources: many message RESOURCE;
    }
    OPERATION_STATUS {
        1 operation_id: message OPERATION_ID;
        2 state: enum OPERATION_STATE;
        3 message: string;
        4 converted_resources: many message RESOURCE;
        5 uuid: message UUID;
        6 agent_id: message AGENT_ID;
        7 resource_provider_id: message RESOURCE_PROVIDER_ID;
    }
    FILTERS {
        1 refuse_seconds: double;
    }
}

enums! {
    OFFER_OPERATION_TYPE {
        UNKNOWN = 0;
        LAUNCH = 1;
        RESERVE = 2;
        UNRESERVE = 3;
        CREATE = 4;
        DESTROY = 5;
        LAUNCH_GROUP = 6;
        GROW_VOLUME = 11;
        SHRINK_VOLUME = 12;
        CREATE_DISK = 13;
        DESTROY_DISK = 14;
    }
    OPERATION_STATE {
        OPERATION_UNSUPPORTED = 0;
        OPERATION_PENDING = 1;
        OPERATION_FINISHED = 2;
        OPERATION_FAILED = 3;
        OPERATION_ERROR = 4;
        OPERATION_DROPPED = 5;
        OPERATION_UNREACHABLE = 6;
        OPERATION_GONE_BY_OPERATOR = 7;
        OPERATION_RECOVERING = 8;
        OPERATION_UNKNOWN = 9;
    }
}
