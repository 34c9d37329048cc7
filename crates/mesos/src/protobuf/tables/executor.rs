//! `executor.proto`: calls and events of the executor API.

use super::*;

messages! {
    EVENT {
        1 type: enum EVENT_TYPE;
        2 subscribed: message EVENT_SUBSCRIBED;
        3 acknowledged: message EVENT_ACKNOWLEDGED;
        4 launch: message EVENT_LAUNCH;
        5 kill: message EVENT_KILL;
        6 message: message EVENT_MESSAGE;
        7 error: message EVENT_ERROR;
        8 launch_group: message EVENT_LAUNCH_GROUP;
    }
    EVENT_SUBSCRIBED {
        1 executor_info: message EXECUTOR_INFO;
        2 framework_info: message FRAMEWORK_INFO;
        3 agent_info: message AGENT_INFO;
        4 container_id: message CONTAINER_ID;
    }
    EVENT_LAUNCH {
        1 task: message TASK_INFO;
    }
    EVENT_LAUNCH_GROUP {
        1 task_group: message TASK_GROUP_INFO;
    }
    EVENT_KILL {
        1 task_id: message TASK_ID;
        2 kill_policy: message KILL_POLICY;
    }
    EVENT_ACKNOWLEDGED {
        1 task_id: message TASK_ID;
        2 uuid: bytes;
    }
    EVENT_MESSAGE {
        1 data: bytes;
    }
    EVENT_ERROR {
        1 message: string;
    }
    CALL {
        1 executor_id: message EXECUTOR_ID;
        2 framework_id: message FRAMEWORK_ID;
        3 type: enum CALL_TYPE;
        4 subscribe: message CALL_SUBSCRIBE;
        5 update: message CALL_UPDATE;
        6 message: message CALL_MESSAGE;
    }
    CALL_SUBSCRIBE {
        1 unacknowledged_tasks: many message TASK_INFO;
        2 unacknowledged_updates: many message CALL_UPDATE;
    }
    CALL_UPDATE {
        1 status: message TASK_STATUS;
    }
    CALL_MESSAGE {
        2 data: bytes;
    }
}

enums! {
    EVENT_TYPE {
        UNKNOWN = 0;
        SUBSCRIBED = 1;
        LAUNCH = 2;
        KILL = 3;
        ACKNOWLEDGED = 4;
        MESSAGE = 5;
        ERROR = 6;
        SHUTDOWN = 7;
        LAUNCH_GROUP = 8;
        HEARTBEAT = 9;
    }
    CALL_TYPE {
        UNKNOWN = 0;
        SUBSCRIBE = 1;
        UPDATE = 2;
        MESSAGE = 3;
        HEARTBEAT = 4;
    }
}
