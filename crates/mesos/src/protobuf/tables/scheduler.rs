//! `scheduler.proto`: calls and events of the scheduler API.

use super::*;

messages! {
    EVENT {
        1 type: enum EVENT_TYPE;
        2 subscribed: message EVENT_SUBSCRIBED;
        3 offers: message EVENT_OFFERS;
        4 rescind: message EVENT_RESCIND;
        5 update: message EVENT_UPDATE;
        6 message: message EVENT_MESSAGE;
        7 failure: message EVENT_FAILURE;
        8 error: message EVENT_ERROR;
        9 inverse_offers: message EVENT_INVERSE_OFFERS;
        10 rescind_inverse_offer: message EVENT_RESCIND_INVERSE_OFFER;
        11 update_operation_status: message EVENT_UPDATE_OPERATION_STATUS;
    }
    EVENT_SUBSCRIBED {
        1 framework_id: message FRAMEWORK_ID;
        2 heartbeat_interval_seconds: double;
        3 master_info: message MASTER_INFO;
    }
    EVENT_OFFERS {
        1 offers: many message OFFER;
    }
    EVENT_INVERSE_OFFERS {
        1 inverse_offers: many message INVERSE_OFFER;
    }
    EVENT_RESCIND {
        1 offer_id: message OFFER_ID;
    }
    EVENT_RESCIND_INVERSE_OFFER {
        1 inverse_offer_id: message OFFER_ID;
    }
    EVENT_UPDATE {
        1 status: message TASK_STATUS;
    }
    EVENT_UPDATE_OPERATION_STATUS {
        1 status: message OPERATION_STATUS;
    }
    EVENT_MESSAGE {
        1 agent_id: message AGENT_ID;
        2 executor_id: message EXECUTOR_ID;
        3 data: bytes;
    }
    EVENT_FAILURE {
        1 agent_id: message AGENT_ID;
        2 executor_id: message EXECUTOR_ID;
        3 status: int32;
    }
    EVENT_ERROR {
        1 message: string;
    }
    CALL {
        1 framework_id: message FRAMEWORK_ID;
        2 type: enum CALL_TYPE;
        3 subscribe: message CALL_SUBSCRIBE;
        4 accept: message CALL_ACCEPT;
        5 decline: message CALL_DECLINE;
        6 kill: message CALL_KILL;
        7 shutdown: message CALL_SHUTDOWN;
        8 acknowledge: message CALL_ACKNOWLEDGE;
        9 reconcile: message CALL_RECONCILE;
        10 message: message CALL_MESSAGE;
        11 request: message CALL_REQUEST;
        13 accept_inverse_offers: message CALL_ACCEPT_INVERSE_OFFERS;
        14 decline_inverse_offers: message CALL_DECLINE_INVERSE_OFFERS;
        15 revive: message CALL_REVIVE;
        16 suppress: message CALL_SUPPRESS;
        17 acknowledge_operation_status: message CALL_ACKNOWLEDGE_OPERATION_STATUS;
        18 reconcile_operations: message CALL_RECONCILE_OPERATIONS;
        19 update_framework: message CALL_UPDATE_FRAMEWORK;
    }
    CALL_SUBSCRIBE {
        1 framework_info: message FRAMEWORK_INFO;
        2 suppressed_roles: many string;
        3 offer_constraints: message OFFER_CONSTRAINTS;
    }
    CALL_ACCEPT {
        1 offer_ids: many message OFFER_ID;
        2 operations: many message OFFER_OPERATION;
        3 filters: message FILTERS;
    }
    CALL_DECLINE {
        1 offer_ids: many message OFFER_ID;
        2 filters: message FILTERS;
    }
    CALL_ACCEPT_INVERSE_OFFERS {
        1 inverse_offer_ids: many message OFFER_ID;
        2 filters: message FILTERS;
    }
    CALL_DECLINE_INVERSE_OFFERS {
        1 inverse_offer_ids: many message OFFER_ID;
        2 filters: message FILTERS;
    }
    CALL_REVIVE {
        1 roles: many string;
    }
    CALL_KILL {
        1 task_id: message TASK_ID;
        2 agent_id: message AGENT_ID;
        3 kill_policy: message KILL_POLICY;
    }
    CALL_SHUTDOWN {
        1 executor_id: message EXECUTOR_ID;
        2 agent_id: message AGENT_ID;
    }
    CALL_ACKNOWLEDGE {
        1 agent_id: message AGENT_ID;
        2 task_id: message TASK_ID;
        3 uuid: bytes;
    }
    CALL_ACKNOWLEDGE_OPERATION_STATUS {
        1 agent_id: message AGENT_ID;
        2 resource_provider_id: message RESOURCE_PROVIDER_ID;
        3 uuid: bytes;
        4 operation_id: message OPERATION_ID;
    }
    CALL_RECONCILE {
        1 tasks: many message CALL_RECONCILE_TASK;
    }
    CALL_RECONCILE_TASK {
        1 task_id: message TASK_ID;
        2 agent_id: message AGENT_ID;
    }
    CALL_RECONCILE_OPERATIONS {
        1 operations: many message CALL_RECONCILE_OPERATIONS_OPERATION;
    }
    CALL_RECONCILE_OPERATIONS_OPERATION {
        1 operation_id: message OPERATION_ID;
        2 agent_id: message AGENT_ID;
        3 resource_provider_id: message RESOURCE_PROVIDER_ID;
    }
    CALL_MESSAGE {
        1 agent_id: message AGENT_ID;
        2 executor_id: message EXECUTOR_ID;
        3 data: bytes;
    }
    CALL_REQUEST {
        1 requests: many message RESOURCE_REQUEST;
    }
    RESOURCE_REQUEST {
        1 agent_id: message AGENT_ID;
        2 resources: many message RESOURCE;
    }
    CALL_SUPPRESS {
        1 roles: many string;
    }
    CALL_UPDATE_FRAMEWORK {
        1 framework_info: message FRAMEWORK_INFO;
        2 suppressed_roles: many string;
        3 offer_constraints: message OFFER_CONSTRAINTS;
    }
}

enums! {
    EVENT_TYPE {
        UNKNOWN = 0;
        SUBSCRIBED = 1;
        OFFERS = 2;
        RESCIND = 3;
        UPDATE = 4;
        MESSAGE = 5;
        FAILURE = 6;
        ERROR = 7;
        HEARTBEAT = 8;
        INVERSE_OFFERS = 9;
        RESCIND_INVERSE_OFFER = 10;
        UPDATE_OPERATION_STATUS = 11;
    }
    CALL_TYPE {
        UNKNOWN = 0;
        SUBSCRIBE = 1;
        TEARDOWN = 2;
        ACCEPT = 3;
        DECLINE = 4;
        REVIVE = 5;
        KILL = 6;
        SHUTDOWN = 7;
        ACKNOWLEDGE = 8;
        RECONCILE = 9;
        MESSAGE = 10;
        REQUEST = 11;
        SUPPRESS = 12;
        ACCEPT_INVERSE_OFFERS = 13;
        DECLINE_INVERSE_OFFERS = 14;
        ACKNOWLEDGE_OPERATION_STATUS = 15;
        RECONCILE_OPERATIONS = 16;
        UPDATE_FRAMEWORK = 17;
    }
}
