//! Frameworks, masters and agents: who they are and where.

use super::*;

messages! {
    ADDRESS {
        1 hostname: string;
        2 ip: string;
        3 port: int32;
    }
    URL {
        1 scheme: string;
        2 address: message ADDRESS;
        3 path: string;
        4 query: many message PARAMETER;
        5 fragment: string;
    }
    FRAMEWORK_INFO {
        1 user: string;
        2 name: string;
        3 id: message FRAMEWORK_ID;
        4 failover_timeout: double;
        5 checkpoint: bool;
        6 role: string;
        7 hostname: string;
        8 principal: string;
        9 webui_url: string;
        10 capabilities: many message FRAMEWORK_INFO_CAPABILITY;
        11 labels: message LABELS;
        12 roles: many string;
        13 offer_filters: map message OFFER_FILTERS;
    }
    FRAMEWORK_INFO_CAPABILITY {
        1 type: enum FRAMEWORK_INFO_CAPABILITY_TYPE;
    }
    DOMAIN_INFO {
        1 fault_domain: message DOMAIN_INFO_FAULT_DOMAIN;
    }
    DOMAIN_INFO_FAULT_DOMAIN {
        1 region: message DOMAIN_INFO_FAULT_DOMAIN_REGION_INFO;
        2 zone: message DOMAIN_INFO_FAULT_DOMAIN_ZONE_INFO;
    }
    DOMAIN_INFO_FAULT_DOMAIN_REGION_INFO {
        1 name: string;
    }
    DOMAIN_INFO_FAULT_DOMAIN_ZONE_INFO {
        1 name: string;
    }
    MASTER_INFO {
        1 id: string;
        2 ip: uint32;
        3 port: uint32;
        4 pid: string;
        5 hostname: string;
        6 version: string;
        7 address: message ADDRESS;
        8 domain: message DOMAIN_INFO;
        9 capabilities: many message MASTER_INFO_CAPABILITY;
    }
    MASTER_INFO_CAPABILITY {
        1 type: enum MASTER_INFO_CAPABILITY_TYPE;
    }
    AGENT_INFO {
        1 hostname: string;
        3 resources: many message RESOURCE;
        5 attributes: many message ATTRIBUTE;
        6 id: message AGENT_ID;
        8 port: int32;
        10 domain: message DOMAIN_INFO;
    }
    OFFER_FILTERS {
        1 min_allocatable_resources: message OFFER_FILTERS_MIN_ALLOCATABLE_RESOURCES;
    }
    OFFER_FILTERS_RESOURCE_QUANTITIES {
        1 quantities: map message VALUE_SCALAR;
    }
    OFFER_FILTERS_MIN_ALLOCATABLE_RESOURCES {
        1 quantities: many message OFFER_FILTERS_RESOURCE_QUANTITIES;
    }
    CREDENTIAL {
        1 principal: string;
        2 secret: string;
    }
}

enums! {
    FRAMEWORK_INFO_CAPABILITY_TYPE {
        UNKNOWN = 0;
        REVOCABLE_RESOURCES = 1;
        TASK_KILLING_STATE = 2;
        GPU_RESOURCES = 3;
        SHARED_RESOURCES = 4;
        PARTITION_AWARE = 5;
        MULTI_ROLE = 6;
        RESERVATION_REFINEMENT = 7;
        REGION_AWARE = 8;
    }
    MASTER_INFO_CAPABILITY_TYPE {
        UNKNOWN = 0;
        AGENT_UPDATE = 1;
        AGENT_DRAINING = 2;
        QUOTA_V2 = 3;
    }
}
