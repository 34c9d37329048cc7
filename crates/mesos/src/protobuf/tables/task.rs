//! Tasks and executors, the commands they run, and what is said about them.

use super::*;

messages! {
    CHECK_INFO {
        1 type: enum CHECK_INFO_TYPE;
        2 command: message CHECK_INFO_COMMAND;
        3 http: message CHECK_INFO_HTTP;
        4 delay_seconds: double;
        5 interval_seconds: double;
        6 timeout_seconds: double;
        7 tcp: message CHECK_INFO_TCP;
    }
    CHECK_INFO_COMMAND {
        1 command: message COMMAND_INFO;
    }
    CHECK_INFO_HTTP {
        1 port: uint32;
        2 path: string;
    }
    CHECK_INFO_TCP {
        1 port: uint32;
    }
    HEALTH_CHECK {
        1 http: message HEALTH_CHECK_HTTP_CHECK_INFO;
        2 delay_seconds: double;
        3 interval_seconds: double;
        4 timeout_seconds: double;
        5 consecutive_failures: uint32;
        6 grace_period_seconds: double;
        7 command: message COMMAND_INFO;
        8 type: enum HEALTH_CHECK_TYPE;
        9 tcp: message HEALTH_CHECK_TCP_CHECK_INFO;
    }
    HEALTH_CHECK_HTTP_CHECK_INFO {
        1 port: uint32;
        2 path: string;
        3 scheme: string;
        4 statuses: many uint32;
        5 protocol: enum NETWORK_INFO_PROTOCOL;
    }
    HEALTH_CHECK_TCP_CHECK_INFO {
        1 port: uint32;
        2 protocol: enum NETWORK_INFO_PROTOCOL;
    }
    KILL_POLICY {
        1 grace_period: message DURATION_INFO;
    }
    COMMAND_INFO {
        1 uris: many message COMMAND_INFO_URI;
        2 environment: message ENVIRONMENT;
        3 value: string;
        5 user: string;
        6 shell: bool;
        7 arguments: many string;
    }
    COMMAND_INFO_URI {
        1 value: string;
        2 executable: bool;
        3 extract: bool;
        4 cache: bool;
        5 output_file: string;
    }
    EXECUTOR_INFO {
        1 executor_id: message EXECUTOR_ID;
        4 data: bytes;
        5 resources: many message RESOURCE;
        7 command: message COMMAND_INFO;
        8 framework_id: message FRAMEWORK_ID;
        9 name: string;
        10 source: string;
        11 container: message CONTAINER_INFO;
        12 discovery: message DISCOVERY_INFO;
        13 shutdown_grace_period: message DURATION_INFO;
        14 labels: message LABELS;
        15 type: enum EXECUTOR_INFO_TYPE;
    }
    TASK_INFO {
        1 name: string;
        2 task_id: message TASK_ID;
        3 agent_id: message AGENT_ID;
        4 resources: many message RESOURCE;
        5 executor: message EXECUTOR_INFO;
        6 data: bytes;
        7 command: message COMMAND_INFO;
        8 health_check: message HEALTH_CHECK;
        9 container: message CONTAINER_INFO;
        10 labels: message LABELS;
        11 discovery: message DISCOVERY_INFO;
        12 kill_policy: message KILL_POLICY;
        13 check: message CHECK_INFO;
        14 max_completion_time: message DURATION_INFO;
        15 limits: map message VALUE_SCALAR;
    }
    TASK_GROUP_INFO {
        1 tasks: many message TASK_INFO;
    }
    TASK_RESOURCE_LIMITATION {
        1 resources: many message RESOURCE;
    }
    CHECK_STATUS_INFO {
        1 type: enum CHECK_INFO_TYPE;
        2 command: message CHECK_STATUS_INFO_COMMAND;
        3 http: message CHECK_STATUS_INFO_HTTP;
        4 tcp: message CHECK_STATUS_INFO_TCP;
    }
    CHECK_STATUS_INFO_COMMAND {
        1 exit_code: int32;
    }
    CHECK_STATUS_INFO_HTTP {
        1 status_code: uint32;
    }
    CHECK_STATUS_INFO_TCP {
        1 succeeded: bool;
    }
    TASK_STATUS {
        1 task_id: message TASK_ID;
        2 state: enum TASK_STATE;
        3 data: bytes;
        4 message: string;
        5 agent_id: message AGENT_ID;
        6 timestamp: double;
        7 executor_id: message EXECUTOR_ID;
        8 healthy: bool;
        9 source: enum TASK_STATUS_SOURCE;
        10 reason: enum TASK_STATUS_REASON;
        11 uuid: bytes;
        12 labels: message LABELS;
        13 container_status: message CONTAINER_STATUS;
        14 unreachable_time: message TIME_INFO;
        15 check_status: message CHECK_STATUS_INFO;
        16 limitation: message TASK_RESOURCE_LIMITATION;
    }
    ENVIRONMENT {
        1 variables: many message ENVIRONMENT_VARIABLE;
    }
    ENVIRONMENT_VARIABLE {
        1 name: string;
        2 value: string;
        3 type: enum ENVIRONMENT_VARIABLE_TYPE;
        4 secret: message SECRET;
    }
    SECRET {
        1 type: enum SECRET_TYPE;
        2 reference: message SECRET_REFERENCE;
        3 value: message SECRET_VALUE;
    }
    SECRET_REFERENCE {
        1 name: string;
        2 key: string;
    }
    SECRET_VALUE {
        1 data: bytes;
    }
}

enums! {
    CHECK_INFO_TYPE {
        UNKNOWN = 0;
        COMMAND = 1;
        HTTP = 2;
        TCP = 3;
    }
    HEALTH_CHECK_TYPE {
        UNKNOWN = 0;
        COMMAND = 1;
        HTTP = 2;
        TCP = 3;
    }
    EXECUTOR_INFO_TYPE {
        UNKNOWN = 0;
        DEFAULT = 1;
        CUSTOM = 2;
    }
    TASK_STATE {
        TASK_STARTING = 0;
        TASK_RUNNING = 1;
        TASK_FINISHED = 2;
        TASK_FAILED = 3;
        TASK_KILLED = 4;
        TASK_LOST = 5;
        TASK_STAGING = 6;
        TASK_ERROR = 7;
        TASK_KILLING = 8;
        TASK_DROPPED = 9;
        TASK_UNREACHABLE = 10;
        TASK_GONE = 11;
        TASK_GONE_BY_OPERATOR = 12;
        TASK_UNKNOWN = 13;
    }
    TASK_STATUS_SOURCE {
        SOURCE_MASTER = 0;
        SOURCE_AGENT = 1;
        SOURCE_EXECUTOR = 2;
    }
    TASK_STATUS_REASON {
        REASON_COMMAND_EXECUTOR_FAILED = 0;
        REASON_EXECUTOR_TERMINATED = 1;
        REASON_EXECUTOR_UNREGISTERED = 2;
        REASON_FRAMEWORK_REMOVED = 3;
        REASON_GC_ERROR = 4;
        REASON_INVALID_FRAMEWORKID = 5;
        REASON_INVALID_OFFERS = 6;
        REASON_MASTER_DISCONNECTED = 7;
        REASON_CONTAINER_LIMITATION_MEMORY = 8;
        REASON_RECONCILIATION = 9;
        REASON_AGENT_DISCONNECTED = 10;
        REASON_AGENT_REMOVED = 11;
        REASON_AGENT_RESTARTED = 12;
        REASON_AGENT_UNKNOWN = 13;
        REASON_TASK_INVALID = 14;
        REASON_TASK_UNAUTHORIZED = 15;
        REASON_TASK_UNKNOWN = 16;
        REASON_CONTAINER_PREEMPTED = 17;
        REASON_RESOURCES_UNKNOWN = 18;
        REASON_CONTAINER_LIMITATION = 19;
        REASON_CONTAINER_LIMITATION_DISK = 20;
        REASON_CONTAINER_LAUNCH_FAILED = 21;
        REASON_CONTAINER_UPDATE_FAILED = 22;
        REASON_EXECUTOR_REGISTRATION_TIMEOUT = 23;
        REASON_EXECUTOR_REREGISTRATION_TIMEOUT = 24;
        REASON_TASK_GROUP_INVALID = 25;
        REASON_TASK_GROUP_UNAUTHORIZED = 26;
        REASON_IO_SWITCHBOARD_EXITED = 27;
        REASON_TASK_CHECK_STATUS_UPDATED = 28;
        REASON_TASK_HEALTH_CHECK_STATUS_UPDATED = 29;
        REASON_TASK_KILLED_DURING_LAUNCH = 30;
        REASON_AGENT_REMOVED_BY_OPERATOR = 31;
        REASON_AGENT_REREGISTERED = 32;
        REASON_MAX_COMPLETION_TIME_REACHED = 33;
        REASON_AGENT_DRAINING = 34;
    }
    ENVIRONMENT_VARIABLE_TYPE {
        UNKNOWN = 0;
        VALUE = 1;
        SECRET = 2;
    }
    SECRET_TYPE {
        UNKNOWN = 0;
        REFERENCE = 1;
        VALUE = 2;
    }
}
